import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Java's client in bench/client_programs.py: {@code MeasuredClient produce|consume BOOTSTRAP TOPIC COUNT BATCH_BYTES
 * LINGER_MS POLL_RECORDS}.
 *
 * <p>As many records as are measured go before, so that the compiler has done its work. Prints the seconds and the
 * process's CPU seconds of the others.
 */
public final class MeasuredClient {
    private static final int VALUE_BYTES = 100;

    private final OperatingSystemMXBean system =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private long begun;
    private long cpu;

    private MeasuredClient() {
    }

    public static void main(String[] arguments) {
        MeasuredClient client = new MeasuredClient();
        int count = Integer.parseInt(arguments[3]);
        if (arguments[0].equals("produce")) {
            client.produce(arguments, count);
        } else {
            client.consume(arguments, count);
        }
    }

    private void start() {
        begun = System.nanoTime();
        cpu = system.getProcessCpuTime();
    }

    private void stop() {
        double seconds = (System.nanoTime() - begun) / 1e9;
        System.out.println(seconds + " " + (system.getProcessCpuTime() - cpu) / 1e9);
    }

    private void produce(String[] arguments, int count) {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", arguments[1],
            "acks", "all",
            "enable.idempotence", true,
            "batch.size", arguments[4],
            "linger.ms", arguments[5]);
        byte[] value = new byte[VALUE_BYTES];
        for (int index = 0; index < VALUE_BYTES; index++) {
            value[index] = (byte) index;
        }
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int turn = 0; turn < 2; turn++) {
                start();
                for (int index = 0; index < count; index++) {
                    producer.send(new ProducerRecord<>(arguments[2], value));
                }
                producer.flush();
            }
            stop();
        }
    }

    private void consume(String[] arguments, int count) {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", arguments[1],
            "max.poll.records", arguments[6]);
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = List.of(new TopicPartition(arguments[2], 0));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            for (int turn = 0; turn < 2; turn++) {
                start();
                read(consumer, count);
            }
            stop();
        }
    }

    private static void read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        int seen = 0;
        while (seen < count) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                if (record.value().length != VALUE_BYTES) {
                    throw new IllegalStateException("an unexpected record");
                }
                seen++;
            }
        }
    }
}
