import java.util.Map;
import org.apache.kafka.clients.producer.Partitioner;
import org.apache.kafka.common.Cluster;

/** All records go to the partition that {@code ottla.partition} names, for tools that take no partition. */
public final class OnePartition implements Partitioner {
    private int partition;

    @Override
    public void configure(Map<String, ?> settings) {
        partition = Integer.parseInt(settings.get("ottla.partition").toString());
    }

    @Override
    public int partition(String topic, Object key, byte[] keyBytes, Object value, byte[] valueBytes, Cluster cluster) {
        return partition;
    }

    @Override
    public void close() {
    }
}
