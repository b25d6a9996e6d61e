import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Consumers under names, each call one call of theirs; what they were told of rebalances is kept. */
final class Consuming {
    private static final Map<String, Consuming> CONSUMERS = new HashMap<>();

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final List<Object> events = new ArrayList<>();

    private Consuming(Map<String, Object> settings) {
        consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static Object call(JsonNode call) {
        String name = call.get("name").asText();
        String verb = call.get("verb").asText();
        if (verb.equals("open")) {
            CONSUMERS.put(name, new Consuming(Rendering.properties(call.get("settings"))));
            return null;
        } else if (verb.equals("close")) {
            CONSUMERS.remove(name).consumer.close();
            return null;
        }
        return CONSUMERS.get(name).call(verb, call);
    }

    private Object call(String verb, JsonNode call) {
        switch (verb) {
            case "subscribe":
                consumer.subscribe(texts(call.get("topics")), listener());
                return null;
            case "subscribe_pattern":
                consumer.subscribe(Pattern.compile(call.get("pattern").asText()), listener());
                return null;
            case "unsubscribe":
                consumer.unsubscribe();
                return null;
            case "assign":
                consumer.assign(partitions(call));
                return null;
            case "poll":
                return poll(call.get("timeout_ms").asLong());
            case "assignment":
                return consumer.assignment();
            case "events":
                return events;
            case "member":
                return List.of(consumer.groupMetadata().memberId(), consumer.groupMetadata().generationId());
            case "commit_sync":
                consumer.commitSync();
                return null;
            case "commit_async":
                consumer.commitAsync((offsets, error) ->
                    events.add(List.of("committed", error == null ? "" : error.getClass().getSimpleName())));
                return null;
            case "commit_offsets":
                consumer.commitSync(offsets(call.get("offsets")));
                return null;
            case "committed":
                return consumer.committed(new HashSet<>(partitions(call)));
            case "position":
                return consumer.position(partitions(call).get(0));
            case "seek":
                consumer.seek(partitions(call).get(0), call.get("offset").asLong());
                return null;
            case "seek_to_beginning":
                consumer.seekToBeginning(partitions(call));
                return null;
            case "seek_to_end":
                consumer.seekToEnd(partitions(call));
                return null;
            case "beginning_offsets":
                return consumer.beginningOffsets(partitions(call));
            case "end_offsets":
                return consumer.endOffsets(partitions(call));
            case "offsets_for_times":
                return offsetsForTimes(partitions(call), call.get("timestamp").asLong());
            case "current_lag":
                return consumer.currentLag(partitions(call).get(0));
            case "pause":
                consumer.pause(partitions(call));
                return consumer.paused();
            case "resume":
                consumer.resume(partitions(call));
                return consumer.paused();
            case "partitions_for":
                return consumer.partitionsFor(call.get("topic").asText());
            case "list_topics":
                return consumer.listTopics().keySet();
            case "enforce_rebalance":
                consumer.enforceRebalance();
                return null;
            default:
                throw new IllegalArgumentException("no such verb: " + verb);
        }
    }

    private ConsumerRebalanceListener listener() {
        return new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                note("revoked", partitions);
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                note("assigned", partitions);
            }

            @Override
            public void onPartitionsLost(Collection<TopicPartition> partitions) {
                note("lost", partitions);
            }
        };
    }

    private void note(String what, Collection<TopicPartition> partitions) {
        events.add(List.of(what, partitions.stream().map(TopicPartition::partition).sorted().toList()));
    }

    private List<Object> poll(long timeoutMs) {
        List<Object> records = new ArrayList<>();
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(timeoutMs))) {
            Map<String, Object> rendered = new LinkedHashMap<>();
            rendered.put("topic", record.topic());
            rendered.put("partition", record.partition());
            rendered.put("offset", record.offset());
            rendered.put("timestamp", record.timestamp());
            rendered.put("timestamp_type", record.timestampType());
            rendered.put("leader_epoch", record.leaderEpoch());
            rendered.put("key", record.key());
            rendered.put("value", record.value());
            List<Object> headers = new ArrayList<>();
            for (Header header : record.headers()) {
                List<Object> pair = new ArrayList<>();
                pair.add(header.key());
                pair.add(header.value());
                headers.add(pair);
            }
            rendered.put("headers", headers);
            records.add(rendered);
        }
        return records;
    }

    private Object offsetsForTimes(List<TopicPartition> partitions, long timestamp) {
        Map<TopicPartition, Long> times = new HashMap<>();
        partitions.forEach(partition -> times.put(partition, timestamp));
        return consumer.offsetsForTimes(times);
    }

    static Set<String> texts(JsonNode array) {
        Set<String> texts = new HashSet<>();
        array.forEach(text -> texts.add(text.asText()));
        return texts;
    }

    static List<TopicPartition> partitions(JsonNode call) {
        List<TopicPartition> partitions = new ArrayList<>();
        call.get("partitions").forEach(pair -> partitions.add(partition(pair)));
        return partitions;
    }

    static TopicPartition partition(JsonNode pair) {
        return new TopicPartition(pair.get(0).asText(), pair.get(1).asInt());
    }

    static Map<TopicPartition, OffsetAndMetadata> offsets(JsonNode array) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        array.forEach(each ->
            offsets.put(partition(each), new OffsetAndMetadata(each.get(2).asLong(), each.get(3).asText())));
        return offsets;
    }
}
