package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

type saramaClient struct {
	bootstrap []string
	members   map[string]*saramaMember
	admin     sarama.ClusterAdmin
	client    sarama.Client
}

func saramaOperations(bootstrap string) map[string]Operation {
	s := &saramaClient{bootstrap: []string{bootstrap}, members: map[string]*saramaMember{}}
	var err error
	if s.client, err = sarama.NewClient(s.bootstrap, saramaConfig()); err == nil {
		s.admin, err = sarama.NewClusterAdminFromClient(s.client)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return map[string]Operation{
		"produce": s.produce, "read": s.read,
		"join": s.join, "state": s.state, "leave": s.leave, "commit": s.commit,
		"create_topic": s.createTopic, "delete_topic": s.deleteTopic,
		"create_partitions": s.createPartitions, "topics": s.topics, "partitions": s.partitions,
		"offsets": s.offsets, "describe_config": s.describeConfig, "alter_config": s.alterConfig,
		"groups": s.groups, "describe_group": s.describeGroup, "delete_group": s.deleteGroup,
		"group_offsets": s.groupOffsets, "reset_group_offsets": s.resetGroupOffsets,
		"delete_records": s.deleteRecords, "cluster": s.cluster,
	}
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.ClientID = "ottla-tests"
	config.Version = sarama.MaxVersion
	config.ApiVersionsRequest = true
	config.Metadata.Retry.Max = 2
	config.Metadata.Retry.Backoff = 20 * time.Millisecond
	config.Metadata.AllowAutoTopicCreation = false
	config.Consumer.MaxWaitTime = 50 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.ResetInvalidOffsets = true
	config.Consumer.Group.Heartbeat.Interval = 50 * time.Millisecond
	config.Consumer.Group.Session.Timeout = deadline
	config.Consumer.Group.Rebalance.Retry.Backoff = 20 * time.Millisecond
	config.Consumer.Return.Errors = true
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Retry.Backoff = 20 * time.Millisecond
	return config
}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"": sarama.CompressionNone, "none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

func encoder(part []byte) sarama.Encoder {
	if part == nil {
		return nil
	}
	return sarama.ByteEncoder(part)
}

func (s *saramaClient) produce(a Args) (any, error) {
	config := saramaConfig()
	config.Producer.Compression = saramaCodecs[a.Codec]
	config.Producer.RequiredAcks = sarama.RequiredAcks(a.acks())
	config.Producer.Flush.Messages = len(a.Records)
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	// What the broker would refuse must reach it.
	config.Producer.MaxMessageBytes = 4 << 20
	if a.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewSyncProducer(s.bootstrap, config)
	if err != nil {
		return nil, err
	}
	var messages []*sarama.ProducerMessage
	for _, each := range a.Records {
		message := &sarama.ProducerMessage{
			Topic: a.Topic, Partition: a.Partition, Key: encoder(each.Key), Value: encoder(each.Value),
		}
		for _, header := range each.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
		}
		if each.Timestamp >= 0 {
			message.Timestamp = time.UnixMilli(each.Timestamp)
		}
		messages = append(messages, message)
	}
	err = producer.SendMessages(messages)
	var several sarama.ProducerErrors
	if errors.As(err, &several) {
		err = several[0].Err
	}
	return nil, errors.Join(err, producer.Close())
}

func saramaRecord(m *sarama.ConsumerMessage) Record {
	record := Record{
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp.UnixMilli(),
		Key: m.Key, Value: m.Value, Headers: []Header{},
	}
	for _, header := range m.Headers {
		record.Headers = append(record.Headers, Header{string(header.Key), header.Value})
	}
	return record
}

func (s *saramaClient) read(a Args) (any, error) {
	consumer, err := sarama.NewConsumer(s.bootstrap, saramaConfig())
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	start := sarama.OffsetOldest
	if a.Offset != nil {
		start = *a.Offset
	}
	partition, err := consumer.ConsumePartition(a.Topic, a.Partition, start)
	if err != nil {
		return nil, err
	}
	defer partition.AsyncClose()
	late := time.After(deadline)
	records := []Record{}
	for len(records) < a.Count {
		select {
		case message := <-partition.Messages():
			records = append(records, saramaRecord(message))
		case failure := <-partition.Errors():
			return nil, failure.Err
		case <-late:
			return nil, fmt.Errorf("only %d records within %s", len(records), deadline)
		}
	}
	return records, nil
}

type saramaMember struct {
	State
	group   sarama.ConsumerGroup
	session sarama.ConsumerGroupSession
	cancel  context.CancelFunc
	done    chan struct{}
}

func saramaStrategy(name string) sarama.BalanceStrategy {
	switch name {
	case "roundrobin":
		return sarama.NewBalanceStrategyRoundRobin()
	case "sticky":
		return sarama.NewBalanceStrategySticky()
	case "cooperative-sticky":
		return sarama.NewBalanceStrategyCooperativeSticky()
	default:
		return sarama.NewBalanceStrategyRange()
	}
}

func (s *saramaClient) join(a Args) (any, error) {
	config := saramaConfig()
	config.Metadata.RefreshFrequency = 200 * time.Millisecond
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{saramaStrategy(a.Strategy)}
	config.Consumer.Group.InstanceId = a.Instance
	group, err := sarama.NewConsumerGroup(s.bootstrap, a.Group, config)
	if err != nil {
		return nil, err
	}
	topics := a.Topics
	if a.Pattern != "" {
		// It has no patterns of its own: its users choose from what there is.
		if topics, err = s.matching(a.Pattern); err != nil {
			return nil, errors.Join(err, group.Close())
		}
	}
	alive, cancel := context.WithCancel(background)
	member := &saramaMember{group: group, cancel: cancel, done: make(chan struct{})}
	s.members[a.Member] = member
	go func() {
		for failure := range group.Errors() {
			member.fail(failure)
		}
	}()
	go member.run(alive, topics)
	return nil, nil
}

func (s *saramaClient) matching(pattern string) ([]string, error) {
	if err := s.client.RefreshMetadata(); err != nil {
		return nil, err
	}
	all, err := s.client.Topics()
	var topics []string
	for _, topic := range all {
		if regexp.MustCompile(pattern).MatchString(topic) {
			topics = append(topics, topic)
		}
	}
	return topics, err
}

func (m *saramaMember) run(alive context.Context, topics []string) {
	defer close(m.done)
	for alive.Err() == nil {
		if err := m.group.Consume(alive, topics, m); err != nil {
			if errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
			m.fail(err)
		}
	}
}

// Setup, Cleanup and ConsumeClaim are its handler's; a claim that is being consumed is a partition owned.
func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.with(func() { m.session = session })
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	this := map[string][]int32{claim.Topic(): {claim.Partition()}}
	m.gain(this)
	defer m.lose(this)
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.take(saramaRecord(message))
		case <-session.Context().Done():
			return nil
		}
	}
}

func (s *saramaClient) state(a Args) (any, error) { return s.members[a.Member].answer() }

func (s *saramaClient) leave(a Args) (any, error) {
	member := s.members[a.Member]
	delete(s.members, a.Member)
	member.cancel()
	err := member.group.Close()
	<-member.done
	return nil, err
}

func (s *saramaClient) commit(a Args) (any, error) {
	member := s.members[a.Member]
	var session sarama.ConsumerGroupSession
	member.with(func() { session = member.session })
	session.MarkOffset(a.Topic, a.Partition, *a.Offset, "")
	session.Commit()
	return nil, nil
}

func (s *saramaClient) createTopic(a Args) (any, error) {
	entries := map[string]*string{}
	for name, value := range a.Config {
		entries[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: max(a.Partitions, 1), ReplicationFactor: 1, ConfigEntries: entries}
	return nil, s.admin.CreateTopic(a.Topic, detail, false)
}

func (s *saramaClient) deleteTopic(a Args) (any, error) { return nil, s.admin.DeleteTopic(a.Topic) }

func (s *saramaClient) createPartitions(a Args) (any, error) {
	err := s.admin.CreatePartitions(a.Topic, int32(a.Count), nil, false)
	var refused *sarama.TopicPartitionError
	if errors.As(err, &refused) {
		err = refused.Err
	}
	return nil, err
}

func (s *saramaClient) topics(Args) (any, error) {
	topics, err := s.admin.ListTopics()
	names := []string{}
	for name := range topics {
		names = append(names, name)
	}
	return names, err
}

func (s *saramaClient) partitions(a Args) (any, error) {
	described, err := s.admin.DescribeTopics([]string{a.Topic})
	if err != nil {
		return nil, err
	}
	found := []int32{}
	for _, partition := range described[0].Partitions {
		found = append(found, partition.ID)
	}
	return found, ifError(described[0].Err)
}

func ifError(code sarama.KError) error {
	if code == sarama.ErrNoError {
		return nil
	}
	return code
}

func (s *saramaClient) offsets(a Args) (any, error) {
	at, err := a.at(map[string]int64{"earliest": sarama.OffsetOldest, "latest": sarama.OffsetNewest})
	if err != nil {
		return nil, err
	}
	described, err := s.admin.DescribeTopics([]string{a.Topic})
	if err != nil {
		return nil, err
	}
	asked := map[int32]int64{}
	for _, partition := range described[0].Partitions {
		asked[partition.ID] = at
	}
	// The admin client asks the leaders that it knows.
	if err := s.client.RefreshMetadata(a.Topic); err != nil {
		return nil, err
	}
	answer, err := s.admin.ListOffsets(map[string]map[int32]int64{a.Topic: asked}, nil)
	found := map[int32]int64{}
	for partition, each := range answer[a.Topic] {
		found[partition] = each.Offset
		if !errors.Is(each.Err, sarama.ErrNoError) {
			err = errors.Join(err, each.Err)
		}
	}
	return found, err
}

func (s *saramaClient) describeConfig(a Args) (any, error) {
	entries, err := s.admin.DescribeConfig(sarama.ConfigResource{
		Type: sarama.TopicResource, Name: a.Topic, ConfigNames: []string{a.Name},
	})
	if err != nil {
		return nil, err
	}
	return entries[0].Value, nil
}

func (s *saramaClient) alterConfig(a Args) (any, error) {
	entry := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &a.Value}
	changes := map[string]sarama.IncrementalAlterConfigsEntry{a.Name: entry}
	return nil, s.admin.IncrementalAlterConfig(sarama.TopicResource, a.Topic, changes, false)
}

func (s *saramaClient) groups(Args) (any, error) {
	groups, err := s.admin.ListConsumerGroups()
	names := []string{}
	for name := range groups {
		names = append(names, name)
	}
	return names, err
}

func (s *saramaClient) describeGroup(a Args) (any, error) {
	groups, err := s.admin.DescribeConsumerGroups([]string{a.Group})
	if err != nil {
		return nil, err
	}
	state := strings.ToLower(groups[0].State)
	return map[string]any{"state": state, "members": len(groups[0].Members)}, ifError(groups[0].Err)
}

func (s *saramaClient) deleteGroup(a Args) (any, error) {
	return nil, s.admin.DeleteConsumerGroup(a.Group)
}

func (s *saramaClient) groupOffsets(a Args) (any, error) {
	answer, err := s.admin.ListConsumerGroupOffsets(a.Group, nil)
	if err != nil {
		return nil, err
	}
	found := map[int32]int64{}
	for partition, block := range answer.Blocks[a.Topic] {
		found[partition] = block.Offset
	}
	return found, ifError(answer.Err)
}

func (s *saramaClient) resetGroupOffsets(a Args) (any, error) {
	offset := sarama.OffsetAndMetadata{Offset: *a.Offset, LeaderEpoch: -1}
	answer, err := s.admin.AlterConsumerGroupOffsets(
		a.Group, map[string]map[int32]sarama.OffsetAndMetadata{a.Topic: {a.Partition: offset}}, nil)
	if err != nil {
		return nil, err
	}
	return nil, ifError(answer.Errors[a.Topic][a.Partition])
}

func (s *saramaClient) deleteRecords(a Args) (any, error) {
	if err := s.client.RefreshMetadata(a.Topic); err != nil {
		return nil, err
	}
	return nil, s.admin.DeleteRecords(a.Topic, map[int32]int64{a.Partition: *a.Offset})
}

func (s *saramaClient) cluster(Args) (any, error) {
	found, controller, err := s.admin.DescribeCluster()
	brokers := []string{}
	for _, broker := range found {
		brokers = append(brokers, broker.Addr())
	}
	return map[string]any{"brokers": brokers, "controller": controller, "cluster_id": nil}, err
}
