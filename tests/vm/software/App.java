import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import com.sun.net.httpserver.HttpServer;
import java.io.FileWriter;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A small service with three holes: `/run` runs a command, `/read` reads a file and `/call` connects to an address, each
 * named by the request. `/` computes long enough to be worth compiling, and is logged.
 */
public final class App implements HttpHandler {
    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(8080), 0);
        server.createContext("/", new App());
        server.start();
    }

    @Override
    public void handle(HttpExchange exchange) throws IOException {
        String value = exchange.getRequestURI().getQuery();
        String text;
        try {
            switch (exchange.getRequestURI().getPath()) {
                case "/" -> text = work();
                case "/run" -> text = run(value);
                case "/read" -> text = Files.readString(Path.of(value));
                case "/call" -> text = call(value);
                default -> text = "no such page";
            }
        } catch (IOException error) {
            text = "failed: " + error.getMessage();
        }
        byte[] body = text.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(200, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    /** Counts the primes below 20,000, with a loop that the JIT compiler takes notice of. */
    private static String work() throws IOException {
        int count = 0;
        for (int number = 2; number < 20_000; number++) {
            count += isPrime(number) ? 1 : 0;
        }
        try (FileWriter log = new FileWriter("/var/log/app/app.log", true)) {
            log.write("counted\n");
        }
        return count + " primes, " + System.getProperty("java.vm.info");
    }

    private static boolean isPrime(int number) {
        for (int factor = 2; factor * factor <= number; factor++) {
            if (number % factor == 0) {
                return false;
            }
        }
        return true;
    }

    private static String run(String command) throws IOException {
        Process process = new ProcessBuilder("/bin/sh", "-c", command).redirectErrorStream(true).start();
        try (InputStream output = process.getInputStream()) {
            return new String(output.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private static String call(String address) throws IOException {
        int colon = address.lastIndexOf(':');
        try (Socket socket = new Socket(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)))) {
            return "connected to " + socket.getPort();
        }
    }
}
