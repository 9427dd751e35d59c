package io.github.authsvc.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.github.authsvc.v1.GetKeyRequest;
import io.github.authsvc.v1.Key;
import io.github.authsvc.v1.KeyServiceGrpc;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import jakarta.servlet.DispatcherType;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.eclipse.jetty.ee10.servlet.FilterHolder;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.ServerConnector;

/**
 * Servers with a guard and a handler, and calls of them: what came back, and what the handler saw.
 */
final class VectorServers {
  // The handler is one of this service, because its code is there.
  private static final String METHOD = "authsvc.v1.KeyService/GetKey";

  private VectorServers() {}

  static JsonObject grpc(AuthClient client, JsonObject call) throws Exception {
    AtomicReference<JsonObject> seen = new AtomicReference<>();
    GrpcGuard.Builder guard = GrpcGuard.builder(client).accept(accepted(call));
    if (is(call, "public", false)) {
      guard.open(METHOD);
    } else {
      guard.scopes(is(call, "listed", true) ? METHOD : "other.v1.Service/*", required(call));
    }
    KeyServiceGrpc.KeyServiceImplBase handler =
        new KeyServiceGrpc.KeyServiceImplBase() {
          @Override
          public void getKey(GetKeyRequest request, StreamObserver<Key> answers) {
            seen.set(caller(GrpcGuard::caller));
            answers.onNext(Key.getDefaultInstance());
            answers.onCompleted();
          }
        };
    Server server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(handler)
            .intercept(guard.build())
            .build()
            .start();
    ManagedChannel channel =
        Grpc.newChannelBuilder("localhost:" + server.getPort(), InsecureChannelCredentials.create())
            .build();
    Metadata headers = new Metadata();
    for (JsonElement each : call.getAsJsonArray("headers")) {
      JsonArray pair = each.getAsJsonArray();
      String name = pair.get(0).getAsString();
      headers.put(
          Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), pair.get(1).getAsString());
    }
    try {
      KeyServiceGrpc.newBlockingStub(channel)
          .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
          .getKey(GetKeyRequest.getDefaultInstance());
      return seen.get();
    } catch (StatusRuntimeException refused) {
      return withHandled(told(refused), seen);
    } finally {
      channel.shutdownNow();
      server.shutdownNow();
    }
  }

  private static JsonObject told(StatusRuntimeException refused) throws Exception {
    JsonObject told = new JsonObject();
    told.addProperty("admitted", false);
    told.addProperty("code", refused.getStatus().getCode().name());
    told.add("retry_seconds", JsonNull.INSTANCE);
    for (Any detail : StatusProto.fromThrowable(refused).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        ErrorInfo info = detail.unpack(ErrorInfo.class);
        told.addProperty("reason", info.getDomain().equals("authsvc") ? info.getReason() : "");
        told.addProperty("required_scope", info.getMetadataOrDefault("required_scope", ""));
      } else if (detail.is(RetryInfo.class)) {
        var delay = detail.unpack(RetryInfo.class).getRetryDelay();
        told.add(
            "retry_seconds",
            VectorCalls.number(Duration.ofSeconds(delay.getSeconds(), delay.getNanos())));
      }
    }
    return told;
  }

  static JsonObject servlet(AuthClient client, JsonObject call) throws Exception {
    AtomicReference<JsonObject> seen = new AtomicReference<>();
    HttpServlet servlet =
        new HttpServlet() {
          @Override
          protected void doGet(HttpServletRequest request, HttpServletResponse response) {
            seen.set(caller(() -> ServletGuard.caller(request)));
          }
        };
    ServletContextHandler context = new ServletContextHandler();
    context.addServlet(new ServletHolder(servlet), "/*");
    ServletGuard guard =
        ServletGuard.builder(client).scopes(required(call)).accept(accepted(call)).build();
    context.addFilter(new FilterHolder(guard), "/*", EnumSet.of(DispatcherType.REQUEST));
    org.eclipse.jetty.server.Server server = new org.eclipse.jetty.server.Server();
    ServerConnector connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    server.addConnector(connector);
    server.setHandler(context);
    server.start();
    try {
      URI uri = URI.create("http://127.0.0.1:" + connector.getLocalPort() + "/x");
      HttpRequest.Builder request =
          HttpRequest.newBuilder(uri).version(HttpClient.Version.HTTP_1_1);
      for (JsonElement each : call.getAsJsonArray("headers")) {
        JsonArray pair = each.getAsJsonArray();
        request.header(pair.get(0).getAsString(), pair.get(1).getAsString());
      }
      HttpResponse<String> response =
          HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
      return response.statusCode() == 200 && seen.get() != null
          ? seen.get()
          : withHandled(refused(response), seen);
    } finally {
      server.stop();
    }
  }

  private static JsonObject withHandled(JsonObject refused, AtomicReference<JsonObject> seen) {
    refused.addProperty("handled", seen.get() != null);
    return refused;
  }

  private static JsonObject refused(HttpResponse<String> response) {
    JsonObject problem = JsonParser.parseString(response.body()).getAsJsonObject();
    String challenge = response.headers().firstValue("www-authenticate").orElse("");
    JsonObject refused = new JsonObject();
    refused.addProperty("admitted", false);
    refused.addProperty("status", response.statusCode());
    refused.add("reason", problem.get("reason"));
    refused.addProperty("retry_after", response.headers().firstValue("retry-after").orElse(null));
    refused.addProperty("ratelimit", response.headers().firstValue("ratelimit").orElse(null));
    refused.addProperty("error", parameter(challenge, "error"));
    refused.addProperty("scope", parameter(challenge, "scope"));
    return refused;
  }

  private static String parameter(String challenge, String name) {
    Matcher found = Pattern.compile(name + "=\"([^\"]*)\"").matcher(challenge);
    return found.find() ? found.group(1) : "";
  }

  private static JsonObject caller(Supplier<Identity> caller) {
    JsonObject seen = new JsonObject();
    seen.addProperty("admitted", true);
    try {
      Identity identity = caller.get();
      seen.addProperty("credential_id", identity.credentialId());
      seen.addProperty("owner_id", identity.ownerId());
      seen.addProperty("type", identity.type().name());
    } catch (IllegalStateException none) {
      seen.add("credential_id", JsonNull.INSTANCE);
    }
    return seen;
  }

  private static CredentialType[] accepted(JsonObject call) {
    List<CredentialType> types = new ArrayList<>();
    VectorCalls.strings(call, "accept").forEach(name -> types.add(CredentialType.valueOf(name)));
    return types.isEmpty() ? CredentialType.values() : types.toArray(CredentialType[]::new);
  }

  private static String[] required(JsonObject call) {
    return VectorCalls.strings(call, "required_scopes").toArray(String[]::new);
  }

  private static boolean is(JsonObject call, String name, boolean usual) {
    return call.has(name) ? call.get(name).getAsBoolean() : usual;
  }
}
