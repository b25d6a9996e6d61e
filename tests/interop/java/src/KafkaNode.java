import kafka.Kafka;
import kafka.tools.StorageTool;

/** Formats the directories of an Apache Kafka node and runs it: {@code KafkaNode CLUSTER_ID PROPERTIES}. */
public final class KafkaNode {
    private KafkaNode() {
    }

    public static void main(String[] args) {
        int formatted = StorageTool.execute(new String[] {"format", "-t", args[0], "-c", args[1]}, System.out);
        if (formatted != 0) {
            System.exit(formatted);
        }
        Kafka.main(new String[] {args[1]});
    }
}
