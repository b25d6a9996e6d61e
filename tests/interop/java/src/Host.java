import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * One JVM for many tests: it reads a call in JSON from each line of its input and answers with a line of JSON.
 *
 * <p>{@code tool} runs the main class of a command-line tool, with what it prints and the exit code that it would
 * have ended a process with; the other calls are those of {@link Producing}, {@link Consuming} and
 * {@link Administering}. An exception of a call is an answer: its class and its message.
 */
public final class Host {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Switch OUT = new Switch();
    private static final Switch ERR = new Switch();
    private static InputStream toolInput = InputStream.nullInputStream();
    private static Integer status;
    private static List<Runnable> hooks = new ArrayList<>();

    private Host() {
    }

    /** What a tool's exit becomes. An Error, for tools catch exceptions. */
    private static final class Exited extends Error {
        private static final long serialVersionUID = 1L;

        Exited() {
            super(null, null, false, false);
        }
    }

    /** A stream whose target changes: some classes keep System.out for ever. */
    private static final class Switch extends OutputStream {
        private volatile OutputStream target = OutputStream.nullOutputStream();

        @Override
        public void write(int one) throws IOException {
            target.write(one);
        }

        @Override
        public void write(byte[] bytes, int from, int length) throws IOException {
            target.write(bytes, from, length);
        }

        @Override
        public void flush() throws IOException {
            target.flush();
        }
    }

    public static void main(String[] args) throws IOException {
        PrintStream answers = System.out;
        BufferedReader calls = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream errors = System.err;
        ERR.target = errors;
        System.setOut(new PrintStream(OUT, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(ERR, true, StandardCharsets.UTF_8));
        System.setIn(new InputStream() {
            @Override
            public int read() throws IOException {
                return toolInput.read();
            }

            @Override
            public int read(byte[] bytes, int from, int length) throws IOException {
                return toolInput.read(bytes, from, length);
            }

            @Override
            public int available() throws IOException {
                return toolInput.available();
            }
        });
        Exit.setExitProcedure((code, message) -> exit(code, message));
        Exit.setHaltProcedure((code, message) -> exit(code, message));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        for (String line = calls.readLine(); line != null; line = calls.readLine()) {
            answers.println(JSON.writeValueAsString(answer(JSON.readTree(line))));
            answers.flush();
            ERR.target = errors;
        }
        Runtime.getRuntime().halt(0);
    }

    private static synchronized void exit(int code, String message) {
        if (status == null) {
            status = code;
        }
        // A tool that catches even errors goes on for a moment after its end: nobody would see what it says then.
        OUT.target = OutputStream.nullOutputStream();
        ERR.target = OutputStream.nullOutputStream();
        throw new Exited();
    }

    private static Map<String, Object> answer(JsonNode call) {
        Map<String, Object> answer = new LinkedHashMap<>();
        try {
            answer.put("result", Rendering.of(dispatch(call)));
        } catch (Throwable error) {
            answer.put("error", Rendering.error(error));
        }
        return answer;
    }

    private static Object dispatch(JsonNode call) throws Exception {
        String room = call.get("room").asText();
        switch (room) {
            case "tool":
                return tool(call);
            case "producer":
                return Producing.call(call);
            case "consumer":
                return Consuming.call(call);
            case "admin":
                return Administering.call(call);
            default:
                throw new IllegalArgumentException("no such room: " + room);
        }
    }

    private static Map<String, Object> tool(JsonNode call) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        OUT.target = out;
        ERR.target = err;
        status = null;
        hooks = new ArrayList<>();
        toolInput = new ByteArrayInputStream(Base64.getDecoder().decode(call.get("input").asText()));
        List<String> arguments = new ArrayList<>();
        call.get("arguments").forEach(argument -> arguments.add(argument.asText()));
        int ended = 0;
        try {
            Class.forName(call.get("main").asText())
                .getMethod("main", String[].class)
                .invoke(null, (Object) arguments.toArray(new String[0]));
        } catch (InvocationTargetException wrapped) {
            if (!(wrapped.getCause() instanceof Exited)) {
                wrapped.getCause().printStackTrace();
                ended = 1;
            }
        }
        OUT.target = out;
        ERR.target = err;
        for (Runnable hook : hooks) {
            hook.run();
        }
        System.out.flush();
        System.err.flush();
        Map<String, Object> done = new LinkedHashMap<>();
        done.put("status", status == null ? ended : status);
        done.put("out", out.toString(StandardCharsets.UTF_8));
        done.put("err", err.toString(StandardCharsets.UTF_8));
        OUT.target = OutputStream.nullOutputStream();
        toolInput = InputStream.nullInputStream();
        return done;
    }
}
