import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A producer with its defaults that sends a record every so many milliseconds to one partition, for
 * bench/cluster_producers.py: {@code PacedProducer TOPIC BOOTSTRAP MILLISECONDS}.
 *
 * <p>A line {@code go N} of its input names the partition and forgets what was acknowledged; {@code report} asks for
 * the acknowledgements since then, a line of {@code System.nanoTime():-1}.
 */
public final class PacedProducer {
    private static final Object LOCK = new Object();
    private static StringBuilder acknowledged = new StringBuilder();
    private static int partition = -1;

    private PacedProducer() {
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[1]);
        Thread sending = new Thread(() -> send(settings, arguments[0], Long.parseLong(arguments[2])));
        sending.setDaemon(true);
        sending.start();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = in.readLine()) != null) {
            synchronized (LOCK) {
                if (line.startsWith("go ")) {
                    acknowledged = new StringBuilder();
                    partition = Integer.parseInt(line.substring(3));
                    LOCK.notifyAll();
                } else {
                    System.out.println(acknowledged);
                    System.out.flush();
                }
            }
        }
    }

    private static void send(Map<String, Object> settings, String topic, long pauseMs) {
        byte[] value = new byte[100];
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            while (true) {
                int target;
                synchronized (LOCK) {
                    while (partition < 0) {
                        LOCK.wait();
                    }
                    target = partition;
                }
                producer.send(new ProducerRecord<>(topic, target, null, value), (metadata, error) -> {
                    if (error == null) {
                        synchronized (LOCK) {
                            acknowledged.append(System.nanoTime()).append(":-1 ");
                        }
                    }
                });
                Thread.sleep(pauseMs);
            }
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
        }
    }
}
