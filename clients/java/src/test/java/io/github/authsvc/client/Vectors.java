package io.github.authsvc.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** Runs the cases of clients/vectors.json with this client; clients/README.md has the protocol. */
public final class Vectors {
  private static final HttpClient CONTROL =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

  private final Path keyFile = Files.createTempDirectory("vectors").resolve("key");
  private final String name;
  private final boolean overHttp;

  private Vectors(String name, boolean overHttp) throws IOException {
    this.name = name;
    this.overHttp = overHttp;
  }

  public static void main(String[] arguments) throws IOException {
    String text = Files.readString(Path.of(System.getenv("AUTHSVC_VECTORS")));
    boolean failed = false;
    for (JsonElement each :
        JsonParser.parseString(text).getAsJsonObject().getAsJsonArray("cases")) {
      JsonObject given = each.getAsJsonObject();
      String name = given.get("name").getAsString();
      if (given.getAsJsonObject("given").has("service")
          && System.getenv("AUTHSVC_SERVICE") == null) {
        System.out.println("ok " + name + " # SKIP no real service");
        continue;
      }
      List<String> problems = new ArrayList<>();
      try {
        problems.addAll(new Vectors(name, false).run());
        if (problems.isEmpty() && text(given).contains("\"guard\"")) {
          new Vectors(name, true).run().forEach(problem -> problems.add("http: " + problem));
        }
      } catch (Exception error) {
        problems.add(error + " at " + List.of(error.getStackTrace()));
      }
      String told = String.join("; ", problems).replace('\n', ' ');
      System.out.println(problems.isEmpty() ? "ok " + name : "not ok " + name + ": " + told);
      failed = failed || !problems.isEmpty();
    }
    System.out.flush();
    System.exit(failed ? 1 : 0);
  }

  private List<String> run() throws Exception {
    JsonObject given = control("begin", -1);
    List<String> problems = new ArrayList<>();
    JsonArray steps = given.getAsJsonArray("steps");
    try (Made made = Made.of(given, this)) {
      for (int n = 0; n < steps.size(); n++) {
        JsonObject step = steps.get(n).getAsJsonObject();
        if (step.has("write_key_file")) {
          write(step.get("write_key_file"));
        } else if (step.has("do")) {
          control("do", n);
        } else {
          for (String problem : called(made, step, n)) {
            problems.add("step " + n + ": " + problem);
          }
        }
      }
    }
    return problems;
  }

  private List<String> called(Made made, JsonObject step, int n) throws Exception {
    JsonObject call = step.getAsJsonObject("call");
    JsonObject expect = step.getAsJsonObject("expect");
    boolean isGuard = call.get("method").getAsString().equals("guard");
    String kind = overHttp ? "http" : "grpc";
    if (overHttp && call.has("public") && call.get("public").getAsBoolean()) {
      // A ServletGuard is not mapped to a path that is public, so nothing of this package would
      // run.
      System.out.println(
          "# " + name + ", step " + n + ", over http: SKIP a public path has no guard");
      return List.of();
    }
    if (isGuard && !expect.get("admitted").getAsBoolean()) {
      if (!expect.has(kind)) {
        return List.of();
      }
      JsonObject wanted = expect.getAsJsonObject(kind).deepCopy();
      wanted.addProperty("admitted", false);
      wanted.addProperty("handled", false);
      expect = wanted;
    }
    JsonObject found =
        made.error != null
            ? VectorCalls.failure(made.error)
            : VectorCalls.result(made.client, call, overHttp);
    List<String> problems = new ArrayList<>(differences(found, expect, ""));
    if (step.has("sent")) {
      control("check", n)
          .getAsJsonArray("problems")
          .forEach(problem -> problems.add("sent: " + problem.getAsString()));
    }
    return problems;
  }

  /** The client of a case, or the exception that it was refused with. */
  private record Made(AuthClient client, RuntimeException error) implements AutoCloseable {
    static Made of(JsonObject given, Vectors run) throws IOException {
      JsonObject told = given.has("client") ? given.getAsJsonObject("client") : new JsonObject();
      boolean isReal = given.getAsJsonObject("given").has("service");
      String usual = System.getenv(isReal ? "AUTHSVC_SERVICE" : "AUTHSVC_SCRIPTED");
      try {
        AuthClient.Builder builder =
            AuthClient.builder(told.has("address") ? told.get("address").getAsString() : usual);
        if (!told.has("tls") || !told.get("tls").getAsBoolean()) {
          builder.plaintext();
        }
        if (told.has("attempts")) {
          builder.attempts(told.get("attempts").getAsInt());
        }
        if (!told.has("deadline_seconds")) {
          builder.deadline(Duration.ofSeconds(30));
        } else if (told.getAsJsonPrimitive("deadline_seconds").isNumber()) {
          builder.deadline(VectorCalls.seconds(told.get("deadline_seconds")));
        }
        if (told.has("key_file")) {
          run.write(told.get("key_file"));
          builder.keyFile(run.keyFile);
        } else if (!told.has("key")) {
          builder.key(isReal ? System.getenv("AUTHSVC_KEY") : "own");
        } else if (told.get("key").isJsonNull()) {
          builder.withoutKey();
        } else {
          builder.key(told.get("key").getAsString());
        }
        AuthClient client = builder.build();
        // Some cases give a call less time than a machine that is busy needs to connect.
        client.awaitConnection(Duration.ofSeconds(told.has("address") ? 0 : 20));
        return new Made(client, null);
      } catch (RuntimeException error) {
        return new Made(null, error);
      }
    }

    @Override
    public void close() {
      if (client != null) {
        client.close();
      }
    }
  }

  private void write(JsonElement text) throws IOException {
    if (text.isJsonNull()) {
      Files.deleteIfExists(keyFile);
    } else {
      Files.writeString(keyFile, text.getAsString());
    }
  }

  private JsonObject control(String action, int step) throws IOException, InterruptedException {
    String query =
        "?case="
            + URLEncoder.encode(name, StandardCharsets.UTF_8)
            + (step < 0 ? "" : "&step=" + step);
    URI uri = URI.create(System.getenv("AUTHSVC_CONTROL") + "/" + action + query);
    HttpRequest request =
        HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.noBody()).build();
    HttpResponse<String> answer = CONTROL.send(request, HttpResponse.BodyHandlers.ofString());
    if (answer.statusCode() != 200) {
      throw new IOException(action + ": " + answer.body());
    }
    return JsonParser.parseString(answer.body()).getAsJsonObject();
  }

  private static List<String> differences(JsonObject found, JsonObject wanted, String path) {
    List<String> problems = new ArrayList<>();
    wanted
        .entrySet()
        .forEach(
            each -> {
              JsonElement value = found.get(each.getKey());
              if (each.getKey().equals("retry_after_at_least_seconds")) {
                JsonElement seconds = found.get("retry_after_seconds");
                if (seconds.isJsonNull() || seconds.getAsDouble() < each.getValue().getAsDouble()) {
                  problems.add("retry_after_seconds is " + seconds);
                }
              } else if (each.getKey().equals("response") && value != null) {
                problems.addAll(
                    differences(
                        value.getAsJsonObject(), each.getValue().getAsJsonObject(), "response."));
              } else if (!each.getValue().equals(value)) {
                problems.add(
                    path
                        + each.getKey()
                        + " is "
                        + value
                        + ", not "
                        + each.getValue()
                        + " "
                        + found);
              }
            });
    return problems;
  }

  private static String text(JsonObject given) {
    return given.toString();
  }
}
