import java.io.PrintStream;
import java.util.Base64;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.MessageFormatter;
import org.apache.kafka.common.header.Header;

/** What kafka-console-consumer prints so that every byte can be told: a JSON object a line, bytes as base64. */
public final class JsonFormatter implements MessageFormatter {
    @Override
    public void writeTo(ConsumerRecord<byte[], byte[]> record, PrintStream output) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(headers.length() == 0 ? "" : ",")
                .append("[\"").append(header.key()).append("\",").append(text(header.value())).append(']');
        }
        output.printf("{\"timestamp\":%d,\"key\":%s,\"value\":%s,\"headers\":[%s]}%n",
            record.timestamp(), text(record.key()), text(record.value()), headers);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? "null" : '"' + Base64.getEncoder().encodeToString(bytes) + '"';
    }
}
