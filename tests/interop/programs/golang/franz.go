package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var background = context.Background()

const deadline = 20 * time.Second

type franz struct {
	bootstrap string
	members   map[string]*franzMember
	admin     *kadm.Client
}

func franzOperations(bootstrap string) map[string]Operation {
	f := &franz{bootstrap: bootstrap, members: map[string]*franzMember{}}
	client, err := f.client()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	f.admin = kadm.NewClient(client)
	return map[string]Operation{
		"produce": f.produce, "read": f.read,
		"join": f.join, "state": f.state, "leave": f.leave, "commit": f.commit, "seek": f.seek,
		"create_topic": f.createTopic, "delete_topic": f.deleteTopic,
		"create_partitions": f.createPartitions, "topics": f.topics, "partitions": f.partitions,
		"offsets": f.offsets, "describe_config": f.describeConfig, "alter_config": f.alterConfig,
		"groups": f.groups, "describe_group": f.describeGroup, "delete_group": f.deleteGroup,
		"group_offsets": f.groupOffsets, "reset_group_offsets": f.resetGroupOffsets,
		"delete_records": f.deleteRecords, "cluster": f.cluster,
	}
}

func (f *franz) client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(f.bootstrap),
		kgo.ClientID("ottla-tests"),
		kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.FetchMaxWait(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, options...)...)
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"": kgo.NoCompression(), "none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func (f *franz) produce(a Args) (any, error) {
	acks := map[int]kgo.Acks{-1: kgo.AllISRAcks(), 0: kgo.NoAck(), 1: kgo.LeaderAck()}
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(franzCodecs[a.Codec]),
		kgo.RequiredAcks(acks[a.acks()]),
		kgo.UnknownTopicRetries(2),
	}
	if !a.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := f.client(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var records []*kgo.Record
	for _, each := range a.Records {
		record := &kgo.Record{Topic: a.Topic, Partition: a.Partition, Key: each.Key, Value: each.Value}
		for _, header := range each.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		if each.Timestamp >= 0 {
			record.Timestamp = time.UnixMilli(each.Timestamp)
		}
		records = append(records, record)
	}
	return nil, client.ProduceSync(background, records...).FirstErr()
}

func franzRecord(r *kgo.Record) Record {
	record := Record{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
		Key: r.Key, Value: r.Value, Headers: []Header{},
	}
	for _, header := range r.Headers {
		record.Headers = append(record.Headers, Header{header.Key, header.Value})
	}
	return record
}

func (f *franz) read(a Args) (any, error) {
	start := kgo.NewOffset().AtStart()
	if a.Offset != nil {
		start = kgo.NewOffset().At(*a.Offset)
	}
	client, err := f.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{a.Topic: {a.Partition: start}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	within, cancel := context.WithTimeout(background, deadline)
	defer cancel()
	records := []Record{}
	for len(records) < a.Count {
		fetches := client.PollFetches(within)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) { records = append(records, franzRecord(r)) })
	}
	return records[:a.Count], nil
}

type franzMember struct {
	State
	client *kgo.Client
	done   chan struct{}
}

var franzBalancers = map[string]kgo.GroupBalancer{
	"": kgo.CooperativeStickyBalancer(), "range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(),
	"sticky": kgo.StickyBalancer(), "cooperative-sticky": kgo.CooperativeStickyBalancer(),
}

func (f *franz) join(a Args) (any, error) {
	member := &franzMember{done: make(chan struct{})}
	options := []kgo.Opt{
		kgo.ConsumerGroup(a.Group),
		kgo.Balancers(franzBalancers[a.Strategy]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(50 * time.Millisecond),
		kgo.SessionTimeout(deadline),
		kgo.MetadataMaxAge(200 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, them map[string][]int32) { member.gain(them) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, them map[string][]int32) { member.lose(them) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, them map[string][]int32) { member.lose(them) }),
	}
	if a.Instance != "" {
		options = append(options, kgo.InstanceID(a.Instance))
	}
	if a.Pattern != "" {
		options = append(options, kgo.ConsumeRegex(), kgo.ConsumeTopics(a.Pattern))
	} else {
		options = append(options, kgo.ConsumeTopics(a.Topics...))
	}
	client, err := f.client(options...)
	if err != nil {
		return nil, err
	}
	member.client = client
	f.members[a.Member] = member
	go member.run()
	return nil, nil
}

func (m *franzMember) run() {
	defer close(m.done)
	for {
		fetches := m.client.PollFetches(background)
		if fetches.IsClientClosed() {
			return
		}
		if err := fetches.Err(); err != nil {
			m.fail(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { m.take(franzRecord(r)) })
	}
}

func (f *franz) state(a Args) (any, error) { return f.members[a.Member].answer() }

func (f *franz) leave(a Args) (any, error) {
	member := f.members[a.Member]
	delete(f.members, a.Member)
	member.client.Close()
	<-member.done
	return nil, nil
}

func (f *franz) commit(a Args) (any, error) {
	offset := kgo.EpochOffset{Epoch: -1, Offset: *a.Offset}
	offsets := map[string]map[int32]kgo.EpochOffset{a.Topic: {a.Partition: offset}}
	var failure error
	f.members[a.Member].client.CommitOffsetsSync(background, offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
			if failure = err; err == nil {
				failure = kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
			}
		})
	return nil, failure
}

func (f *franz) seek(a Args) (any, error) {
	epoch := kgo.EpochOffset{Epoch: -1, Offset: *a.Offset}
	f.members[a.Member].client.SetOffsets(map[string]map[int32]kgo.EpochOffset{a.Topic: {a.Partition: epoch}})
	return nil, nil
}

func (f *franz) createTopic(a Args) (any, error) {
	config := map[string]*string{}
	for name, value := range a.Config {
		config[name] = &value
	}
	answer, err := f.admin.CreateTopic(background, max(a.Partitions, 1), 1, config, a.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answer.Err
}

func (f *franz) deleteTopic(a Args) (any, error) {
	answer, err := f.admin.DeleteTopic(background, a.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answer.Err
}

func (f *franz) createPartitions(a Args) (any, error) {
	answer, err := f.admin.UpdatePartitions(background, a.Count, a.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answer.Error()
}

func (f *franz) topics(Args) (any, error) {
	topics, err := f.admin.ListTopics(background)
	return topics.Names(), err
}

func (f *franz) partitions(a Args) (any, error) {
	topics, err := f.admin.ListTopics(background, a.Topic)
	if err != nil {
		return nil, err
	}
	return topics[a.Topic].Partitions.Numbers(), topics[a.Topic].Err
}

func (f *franz) offsets(a Args) (any, error) {
	at, err := a.at(map[string]int64{"earliest": -2, "latest": -1})
	if err != nil {
		return nil, err
	}
	var listed kadm.ListedOffsets
	switch at {
	case -2:
		listed, err = f.admin.ListStartOffsets(background, a.Topic)
	case -1:
		listed, err = f.admin.ListEndOffsets(background, a.Topic)
	default:
		listed, err = f.admin.ListOffsetsAfterMilli(background, at, a.Topic)
	}
	if err == nil {
		err = listed.Error()
	}
	found := map[int32]int64{}
	listed.Each(func(each kadm.ListedOffset) { found[each.Partition] = each.Offset })
	return found, err
}

func (f *franz) describeConfig(a Args) (any, error) {
	resources, err := f.admin.DescribeTopicConfigs(background, a.Topic)
	if err != nil {
		return nil, err
	}
	for _, config := range resources[0].Configs {
		if config.Key == a.Name {
			return config.MaybeValue(), nil
		}
	}
	return nil, resources[0].Err
}

func (f *franz) alterConfig(a Args) (any, error) {
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: a.Name, Value: &a.Value}
	answers, err := f.admin.AlterTopicConfigs(background, []kadm.AlterConfig{change}, a.Topic)
	if err != nil {
		return nil, err
	}
	return nil, answers[0].Err
}

func (f *franz) groups(Args) (any, error) {
	groups, err := f.admin.ListGroups(background)
	return groups.Groups(), err
}

func (f *franz) describeGroup(a Args) (any, error) {
	groups, err := f.admin.DescribeGroups(background, a.Group)
	if err != nil {
		return nil, err
	}
	group := groups[a.Group]
	return map[string]any{"state": strings.ToLower(group.State), "members": len(group.Members)}, group.Err
}

func (f *franz) deleteGroup(a Args) (any, error) {
	answer, err := f.admin.DeleteGroup(background, a.Group)
	if err != nil {
		return nil, err
	}
	return nil, answer.Err
}

func (f *franz) groupOffsets(a Args) (any, error) {
	answer, err := f.admin.FetchOffsets(background, a.Group)
	found := map[int32]int64{}
	answer.Each(func(each kadm.OffsetResponse) {
		if each.Topic == a.Topic {
			found[each.Partition] = each.At
		}
	})
	return found, err
}

func (f *franz) resetGroupOffsets(a Args) (any, error) {
	offsets := kadm.Offsets{}
	offsets.AddOffset(a.Topic, a.Partition, *a.Offset, -1)
	return nil, f.admin.CommitAllOffsets(background, a.Group, offsets)
}

func (f *franz) deleteRecords(a Args) (any, error) {
	offsets := kadm.Offsets{}
	offsets.AddOffset(a.Topic, a.Partition, *a.Offset, -1)
	answer, err := f.admin.DeleteRecords(background, offsets)
	if err != nil {
		return nil, err
	}
	return nil, answer.Error()
}

func (f *franz) cluster(Args) (any, error) {
	metadata, err := f.admin.BrokerMetadata(background)
	brokers := []string{}
	for _, broker := range metadata.Brokers {
		brokers = append(brokers, fmt.Sprintf("%s:%d", broker.Host, broker.Port))
	}
	return map[string]any{"brokers": brokers, "controller": metadata.Controller, "cluster_id": metadata.Cluster}, err
}
