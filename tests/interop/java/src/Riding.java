import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * An application with a producer and a consumer group, both with their defaults, for as long as its input is open.
 *
 * <p>A line of JSON for everything that it is told: {@code {"acked": 3}}, {@code {"seen": 3}}, {@code {"fault": "..."}}.
 * Once the input says {@code stop}, nothing more is sent; when it ends, all is closed.
 */
public final class Riding {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static volatile boolean sending = true;
    private static volatile boolean reading = true;

    private Riding() {
    }

    private static synchronized void tell(String what, Object value) {
        try {
            System.out.println(JSON.writeValueAsString(Map.of(what, value)));
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        String topic = args[1];
        long pauseMs = Long.parseLong(args[2]);
        Thread producer = new Thread(() -> produce(bootstrap, topic, pauseMs));
        Thread consumer = new Thread(() -> consume(bootstrap, topic));
        producer.start();
        consumer.start();
        for (int letter = System.in.read(); letter >= 0; letter = System.in.read()) {
            sending = false;
        }
        sending = false;
        reading = false;
        producer.join();
        consumer.join();
    }

    private static void produce(String bootstrap, String topic, long pauseMs) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "acks", "all");
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int number = 0; sending; number++) {
                int own = number;
                byte[] text = Integer.toString(number).getBytes(StandardCharsets.UTF_8);
                producer.send(new ProducerRecord<>(topic, text, text), (metadata, error) -> {
                    if (error == null) {
                        tell("acked", own);
                    } else {
                        tell("fault", "send: " + error);
                    }
                });
                Thread.sleep(pauseMs);
            }
        } catch (Throwable error) {
            tell("fault", "producer: " + error);
        }
    }

    private static void consume(String bootstrap, String topic) {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "group.id", topic, "auto.offset.reset", "earliest");
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (reading) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    tell("seen", Integer.parseInt(new String(record.value(), StandardCharsets.UTF_8)));
                }
            }
        } catch (Throwable error) {
            tell("fault", "consumer: " + error);
        }
    }
}
