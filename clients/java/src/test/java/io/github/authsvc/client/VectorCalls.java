package io.github.authsvc.client;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.github.authsvc.v1.KeyServiceGrpc;
import io.github.authsvc.v1.SessionServiceGrpc;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.PrototypeMarshaller;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/** The calls of the cases, with their results as JSON. */
final class VectorCalls {
  private static final Gson GSON = new Gson();

  private VectorCalls() {}

  static JsonObject result(AuthClient client, JsonObject call, boolean overHttp) throws Exception {
    try {
      String method = call.get("method").getAsString();
      String credential = call.has("credential") ? call.get("credential").getAsString() : "";
      return switch (method) {
        case "verify_key" -> shown(client.verifyKey(credential, options(call)));
        case "verify_session" -> shown(client.verifySession(credential, options(call)));
        case "verify_token" ->
            shown(
                client.verifyToken(credential, call.get("audience").getAsString(), options(call)));
        case "rpc" -> rpc(client, call);
        case "guard" ->
            overHttp ? VectorServers.servlet(client, call) : VectorServers.grpc(client, call);
        default -> throw new IllegalStateException("no such method: " + method);
      };
    } catch (RuntimeException error) {
      return failure(error);
    }
  }

  static JsonObject failure(RuntimeException error) {
    JsonObject failure = new JsonObject();
    if (error instanceof ClientException told) {
      failure.addProperty("error", told instanceof RefusedException ? "Refused" : "Unavailable");
      failure.addProperty("code", told.code().name());
      failure.addProperty("reason", told.reason());
      Duration retryAfter =
          told instanceof UnavailableException u ? u.retryAfter().orElse(null) : null;
      failure.add("retry_after_seconds", number(retryAfter));
    } else {
      failure.addProperty(
          "error", error instanceof IllegalArgumentException ? "Invalid" : error.toString());
    }
    return failure;
  }

  static Duration seconds(JsonElement number) {
    return Duration.ofMillis(Math.round(number.getAsDouble() * 1000));
  }

  static List<String> strings(JsonObject call, String name) {
    List<String> found = new ArrayList<>();
    if (call.has(name)) {
      call.getAsJsonArray(name).forEach(each -> found.add(each.getAsString()));
    }
    return found;
  }

  /** Returns seconds, whole ones as whole numbers. */
  static JsonElement number(Duration duration) {
    if (duration == null) {
      return JsonNull.INSTANCE;
    }
    double seconds = duration.toNanos() / 1e9;
    return JsonParser.parseString(
        seconds == Math.rint(seconds) ? Long.toString((long) seconds) : Double.toString(seconds));
  }

  private static VerifyOptions options(JsonObject call) {
    VerifyOptions options = VerifyOptions.requiring(strings(call, "required_scopes"));
    options = options.anyOf(strings(call, "any_of_scopes").toArray(String[]::new));
    if (call.has("client_ip")) {
      options = options.clientIp(call.get("client_ip").getAsString());
    }
    if (call.has("user_agent")) {
      options = options.userAgent(call.get("user_agent").getAsString());
    }
    if (call.has("cost")) {
      options = options.cost(call.get("cost").getAsInt());
    }
    return call.has("deadline_seconds")
        ? options.deadline(seconds(call.get("deadline_seconds")))
        : options;
  }

  @SuppressWarnings("unchecked")
  private static JsonObject rpc(AuthClient client, JsonObject call) throws Exception {
    String rpc = call.get("rpc").getAsString();
    MethodDescriptor<Message, Message> method =
        (MethodDescriptor<Message, Message>)
            Stream.of(
                    KeyServiceGrpc.getServiceDescriptor(),
                    SessionServiceGrpc.getServiceDescriptor())
                .flatMap(service -> service.getMethods().stream())
                .filter(each -> each.getFullMethodName().equals(rpc))
                .findFirst()
                .orElseThrow();
    Message.Builder request =
        ((PrototypeMarshaller<Message>) method.getRequestMarshaller())
            .getMessagePrototype()
            .newBuilderForType();
    JsonFormat.parser().merge(call.get("request").toString(), request);
    Message answer = client.call(method, request.build());
    JsonObject found = new JsonObject();
    String json = JsonFormat.printer().preservingProtoFieldNames().print(answer);
    found.add("response", JsonParser.parseString(json));
    return found;
  }

  private static JsonObject shown(Verdict verdict) {
    JsonObject shown = new JsonObject();
    shown.addProperty("valid", verdict.valid());
    shown.addProperty("code", verdict.code().name());
    shown.addProperty("type", verdict.type().name());
    shown.addProperty("credential_id", verdict.credentialId());
    shown.addProperty("owner_id", verdict.ownerId());
    shown.add("scopes", GSON.toJsonTree(verdict.scopes()));
    shown.addProperty("expire_time", verdict.expireTime().map(Object::toString).orElse(null));
    shown.add("annotations", GSON.toJsonTree(verdict.annotations()));
    JsonArray limits = new JsonArray();
    for (RateLimit limit : verdict.rateLimits()) {
      JsonObject each = new JsonObject();
      each.addProperty("name", limit.name());
      each.addProperty("limit", limit.limit());
      each.addProperty("period_seconds", limit.period().toSeconds());
      each.addProperty("remaining", limit.remaining());
      each.addProperty("reset_seconds", limit.reset().toSeconds());
      each.addProperty("of_owner", limit.ofOwner());
      limits.add(each);
    }
    shown.add("rate_limits", limits);
    shown.add("retry_after_seconds", number(verdict.retryAfter().orElse(null)));
    shown.addProperty(
        "credits_remaining",
        verdict.creditsRemaining().isPresent() ? verdict.creditsRemaining().getAsLong() : null);
    return shown;
  }
}
