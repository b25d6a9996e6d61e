import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** A producer that sends the records of one call and is closed. */
final class Producing {
    private static final long DEADLINE_S = 30;

    private Producing() {
    }

    static Object call(JsonNode call) throws Exception {
        Map<String, Object> settings = Rendering.properties(call.get("settings"));
        List<Object> outcomes = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (settings.containsKey("transactional.id")) {
                producer.initTransactions();
            }
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode record : call.get("records")) {
                sent.add(producer.send(recordOf(record)));
            }
            producer.flush();
            for (Future<RecordMetadata> each : sent) {
                try {
                    RecordMetadata metadata = each.get(DEADLINE_S, TimeUnit.SECONDS);
                    outcomes.add(List.of(metadata.partition(), metadata.offset(), metadata.timestamp()));
                } catch (Exception error) {
                    outcomes.add(error);
                }
            }
        }
        return outcomes;
    }

    private static ProducerRecord<byte[], byte[]> recordOf(JsonNode record) {
        RecordHeaders headers = new RecordHeaders();
        for (JsonNode header : record.get("headers")) {
            headers.add(new RecordHeader(header.get(0).asText(), Rendering.bytes(header.get(1))));
        }
        JsonNode partition = record.get("partition");
        JsonNode timestamp = record.get("timestamp");
        return new ProducerRecord<>(
            record.get("topic").asText(),
            partition.isNull() ? null : partition.asInt(),
            timestamp.isNull() ? null : timestamp.asLong(),
            Rendering.bytes(record.get("key")),
            Rendering.bytes(record.get("value")),
            headers);
    }
}
