import com.fasterxml.jackson.databind.JsonNode;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;

/** Kafka's answers as maps, lists, texts and numbers: a getter is a field, a future its value or its error. */
final class Rendering {
    private static final long DEADLINE_S = 30;
    private static final int DEPTH_MAX = 12;
    private static final Set<String> NO_FIELDS =
        Set.of("hashCode", "toString", "clone", "getClass", "notify", "notifyAll", "wait", "ordinal", "builder");

    private Rendering() {
    }

    static Object of(Object value) {
        return of(value, 0);
    }

    static Map<String, Object> error(Throwable thrown) {
        Throwable error = thrown;
        while ((error instanceof ExecutionException || error instanceof CompletionException
                || error instanceof InvocationTargetException) && error.getCause() != null) {
            error = error.getCause();
        }
        Map<String, Object> rendered = new LinkedHashMap<>();
        rendered.put("error", error.getClass().getSimpleName());
        rendered.put("message", error.getMessage());
        return rendered;
    }

    private static Object of(Object value, int depth) {
        if (depth > DEPTH_MAX) {
            return String.valueOf(value);
        } else if (value == null || value instanceof Boolean || value instanceof Number || value instanceof String) {
            return value;
        } else if (value instanceof byte[]) {
            return Base64.getEncoder().encodeToString((byte[]) value);
        } else if (value instanceof Throwable) {
            return error((Throwable) value);
        } else if (value instanceof KafkaFuture) {
            return future((KafkaFuture<?>) value, depth);
        } else if (value instanceof Optional) {
            return of(((Optional<?>) value).orElse(null), depth);
        } else if (value instanceof OptionalInt) {
            OptionalInt number = (OptionalInt) value;
            return number.isPresent() ? number.getAsInt() : null;
        } else if (value instanceof OptionalLong) {
            OptionalLong number = (OptionalLong) value;
            return number.isPresent() ? number.getAsLong() : null;
        } else if (value instanceof Map) {
            Map<String, Object> rendered = new TreeMap<>();
            ((Map<?, ?>) value).forEach((name, held) -> rendered.put(name(name), of(held, depth + 1)));
            return rendered;
        } else if (value instanceof Object[]) {
            return of(Arrays.asList((Object[]) value), depth);
        } else if (value instanceof Iterable) {
            List<Object> rendered = new ArrayList<>();
            ((Iterable<?>) value).forEach(held -> rendered.add(of(held, depth + 1)));
            return rendered;
        } else if (value instanceof Enum || value instanceof Uuid || value instanceof TopicPartition
                || value instanceof Duration || value instanceof ConfigResource
                || value instanceof TopicPartitionReplica || !isKafkas(value)) {
            return name(value);
        }
        return fields(value, depth);
    }

    private static Object future(KafkaFuture<?> future, int depth) {
        try {
            return of(future.get(DEADLINE_S, TimeUnit.SECONDS), depth);
        } catch (Exception error) {
            return error(error);
        }
    }

    private static boolean isKafkas(Object value) {
        return value.getClass().getName().startsWith("org.apache.kafka.");
    }

    private static String name(Object value) {
        if (value instanceof ConfigResource) {
            ConfigResource resource = (ConfigResource) value;
            return resource.type() + ":" + resource.name();
        }
        return value instanceof Enum ? ((Enum<?>) value).name() : String.valueOf(value);
    }

    private static Map<String, Object> fields(Object value, int depth) {
        Map<String, Object> rendered = new TreeMap<>();
        for (Method method : value.getClass().getMethods()) {
            if (method.getParameterCount() == 0 && method.getReturnType() != void.class
                    && !Modifier.isStatic(method.getModifiers()) && !NO_FIELDS.contains(method.getName())
                    && !method.isAnnotationPresent(Deprecated.class)) {
                try {
                    method.setAccessible(true);
                    rendered.put(method.getName(), of(method.invoke(value), depth + 1));
                } catch (InvocationTargetException error) {
                    rendered.put(method.getName(), error(error));
                } catch (IllegalAccessException error) {
                    throw new IllegalStateException(error);
                }
            }
        }
        return rendered;
    }

    /** A JSON object of texts as properties. */
    static Map<String, Object> properties(JsonNode object) {
        Map<String, Object> properties = new LinkedHashMap<>();
        object.fields().forEachRemaining(field -> properties.put(field.getKey(), field.getValue().asText()));
        return properties;
    }

    /** Bytes out of base64; null stays null. */
    static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }
}
