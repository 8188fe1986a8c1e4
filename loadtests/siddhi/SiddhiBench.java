import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import io.siddhi.core.SiddhiAppRuntime;
import io.siddhi.core.SiddhiManager;
import io.siddhi.core.event.Event;
import io.siddhi.core.stream.input.InputHandler;
import io.siddhi.core.stream.output.StreamCallback;
import java.io.BufferedInputStream;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.ZoneOffset;

/**
 * Bids of a file through one Siddhi app; prints {"seconds", "rows"}. Arguments: the file of the app, the file of bids.
 * Bids go in as arrays of 1,000 events with their own time. What comes out is counted, nothing else.
 */
public final class SiddhiBench {
    private static final int BATCH = 1_000;
    private static long rows;
    private static long last;

    public static void main(String[] arguments) throws Exception {
        SiddhiManager manager = new SiddhiManager();
        SiddhiAppRuntime runtime = manager.createSiddhiAppRuntime(Files.readString(Path.of(arguments[0])));
        runtime.addCallback("result", new StreamCallback() {
            @Override
            public void receive(Event[] events) {
                rows += events.length;
            }
        });
        InputHandler bids = runtime.getInputHandler("bid");
        runtime.start();
        long started = System.nanoTime();
        try (InputStream file = new BufferedInputStream(Files.newInputStream(Path.of(arguments[1])), 1 << 20);
                JsonParser parser = new JsonFactory().createParser(file)) {
            Event[] batch = new Event[BATCH];
            int filled = 0;
            while (parser.nextToken() == JsonToken.START_OBJECT) {
                batch[filled++] = read(parser);
                if (filled == BATCH) {
                    bids.send(batch);
                    batch = new Event[BATCH];
                    filled = 0;
                }
            }
            for (int n = 0; n < filled; n++) {
                bids.send(batch[n]);
            }
            long later = last + 60_000; // closes the last window; no rule takes it
            bids.send(new Event(later, new Object[] {0L, 0L, 0L, "", "", later, ""}));
        }
        double seconds = (System.nanoTime() - started) / 1e9;
        System.out.println("{\"seconds\": " + seconds + ", \"rows\": " + rows + "}");
        runtime.shutdown();
        manager.shutdown();
    }

    private static Event read(JsonParser parser) throws Exception {
        Object[] values = new Object[7];
        long at = 0;
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.currentName();
            parser.nextToken();
            switch (name) {
                case "auction": values[0] = parser.getLongValue(); break;
                case "bidder": values[1] = parser.getLongValue(); break;
                case "price": values[2] = parser.getLongValue(); break;
                case "channel": values[3] = parser.getText(); break;
                case "url": values[4] = parser.getText(); break;
                case "extra": values[6] = parser.getText(); break;
                default:
                    at = LocalDateTime.parse(parser.getText().replace(' ', 'T')).toInstant(ZoneOffset.UTC).toEpochMilli();
                    values[5] = at;
            }
        }
        last = at;
        return new Event(at, values);
    }
}
