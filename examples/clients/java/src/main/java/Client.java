import com.google.gson.Gson;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;

/** Reads the text of a picture with edge-ocr's service: Client [--words] IMAGE [URL]. */
public final class Client {
    record Word(int[][] poly, String text, double score) {}

    record Line(int[][] poly, String text, double score, List<Word> words) {}

    record Result(List<Line> texts, String image) {}

    record Answer(int errorCode, String errorMsg, Result result) {}

    private Client() {}

    public static void main(String[] args) throws InterruptedException {
        String usage = "usage: client [--words] IMAGE [URL]";
        List<String> given = new ArrayList<>(List.of(args));
        if (given.contains("-h") || given.contains("--help")) {
            System.out.println(usage);
            return;
        }
        boolean words = given.remove("--words");
        if (given.isEmpty() || given.size() > 2) {
            System.err.println(usage);
            System.exit(1);
        }
        try {
            String url = given.size() == 2 ? given.get(1) : "http://127.0.0.1:8080/ocr";
            run(Path.of(given.get(0)), URI.create(url), words);
        } catch (IOException | RuntimeException error) {
            System.err.println("Error: " + (error.getMessage() == null ? error : error.getMessage()));
            System.exit(1);
        }
    }

    private static void run(Path image, URI url, boolean words) throws IOException, InterruptedException {
        JsonObject body = new JsonObject();
        body.addProperty("image", Base64.getEncoder().encodeToString(Files.readAllBytes(image)));
        JsonObject params = new JsonObject();
        params.addProperty("returnWordBox", words);
        body.add("inferenceParams", params);
        HttpRequest request = HttpRequest.newBuilder(url)
                .timeout(Duration.ofMinutes(2))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body.toString()))
                .build();
        HttpResponse<String> response =
                HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        Answer answer = new Gson().fromJson(response.body(), Answer.class);
        if (answer.errorCode() != 0) {
            throw new IOException(answer.errorCode() + ": " + answer.errorMsg());
        }
        for (Line line : answer.result().texts()) {
            System.out.printf(Locale.ROOT, "%.3f\t%s%n", line.score(), line.text());
            for (Word word : line.words() == null ? List.<Word>of() : line.words()) {
                String corners = Arrays.stream(word.poly())
                        .map(corner -> corner[0] + "," + corner[1])
                        .collect(Collectors.joining(" "));
                System.out.printf(Locale.ROOT, "\t%.3f\t%s\t%s%n", word.score(), word.text(), corners);
            }
        }
        Path saved = Path.of(image.getFileName().toString().replaceFirst("(?<=.)\\.[^.]*$", "") + "_ocr.jpg");
        Files.write(saved, Base64.getDecoder().decode(answer.result().image()));
        System.err.println("saved " + saved);
    }
}
