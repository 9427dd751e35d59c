package io.github.authsvc.client;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.StatusRuntimeException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.BiFunction;

/**
 * Verifies the credential of each call of a gRPC server before its handler starts.
 *
 * <pre>{@code
 * ServerInterceptor guard = GrpcGuard.builder(client)
 *     .scopes("orders.v1.Orders/*", "orders:read")
 *     .open("grpc.health.v1.Health/*")
 *     .build();
 * Server server = ServerBuilder.forPort(8080).addService(orders).intercept(guard).build();
 * // and in a handler:
 * String owner = GrpcGuard.caller().ownerId();
 * }</pre>
 *
 * <p>Everything that is not plainly good is refused: with UNAUTHENTICATED, PERMISSION_DENIED,
 * RESOURCE_EXHAUSTED, or UNAVAILABLE if the credential cannot be verified at the moment; the cause
 * of that is in the log only. A method that is not listed is refused. A stream is verified when it
 * begins.
 *
 * <p>The thread of the call waits for the verdict. So the server must not have a {@code
 * directExecutor()}. gRPC runs the interceptor first that was added last: add this one last.
 */
public final class GrpcGuard implements ServerInterceptor {
  private static final Context.Key<Identity> IDENTITY = Context.key("authsvc.identity");
  private static final List<Metadata.Key<String>> SENT =
      List.of("authorization", "x-api-key", "user-agent").stream()
          .map(name -> Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER))
          .toList();

  private final Guard guard;
  private final Access access;
  private final BiFunction<ServerCall<?, ?>, Metadata, String> clientAddress;

  private GrpcGuard(Builder builder) {
    guard = new Guard(builder.client, builder.accept);
    access = builder.access;
    clientAddress = builder.clientAddress;
  }

  /** Returns what builds a guard that verifies with a client. */
  public static Builder builder(AuthClient client) {
    return new Builder(client);
  }

  /**
   * Returns the caller. Throws IllegalStateException outside of a call, and in one that needs no
   * credential.
   */
  public static Identity caller() {
    Identity identity = IDENTITY.get();
    if (identity == null) {
      throw new IllegalStateException(
          "no caller is authenticated: the method is open, or this is not within a call");
    }
    return identity;
  }

  /**
   * Returns the IP address of the peer of the connection, or "". Behind a proxy, this is the proxy.
   */
  public static String peerAddress(ServerCall<?, ?> call, Metadata headers) {
    SocketAddress peer = call.getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
    return peer instanceof InetSocketAddress address && address.getAddress() != null
        ? address.getAddress().getHostAddress()
        : "";
  }

  @Override
  public <Q, A> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    String method = call.getMethodDescriptor().getFullMethodName();
    Access.Rule rule = access.rule(method);
    Identity identity = null;
    if (rule == null || !rule.isPublic()) {
      try {
        identity = identify(method, rule, call, headers);
      } catch (Refusal refusal) {
        StatusRuntimeException refused = refusal.status();
        call.close(refused.getStatus(), refused.getTrailers());
        return new ServerCall.Listener<>() {};
      }
    }
    return Contexts.interceptCall(
        Context.current().withValue(IDENTITY, identity), call, headers, next);
  }

  private Identity identify(
      String method, Access.Rule rule, ServerCall<?, ?> call, Metadata headers) throws Refusal {
    if (rule == null) {
      throw Refusal.methodNotListed("/" + method);
    }
    Guard.Request request =
        new Guard.Request() {
          @Override
          public List<Header> headers() {
            return sent(headers);
          }

          @Override
          public String clientIp() {
            return Objects.requireNonNullElse(clientAddress.apply(call, headers), "");
          }

          @Override
          public Duration left() {
            Deadline deadline = Context.current().getDeadline();
            return deadline == null
                ? null
                : Duration.ofNanos(deadline.timeRemaining(TimeUnit.NANOSECONDS));
          }
        };
    return guard.identify("/" + method, request, rule.scopes());
  }

  private static List<Header> sent(Metadata headers) {
    List<Header> sent = new ArrayList<>();
    for (Metadata.Key<String> key : SENT) {
      Iterable<String> values = headers.getAll(key);
      if (values != null) {
        values.forEach(value -> sent.add(new Header(key.name(), value)));
      }
    }
    return sent;
  }

  /** Builds a guard. */
  public static final class Builder {
    private final AuthClient client;
    private final Access access = new Access();
    private Set<CredentialType> accept = EnumSet.allOf(CredentialType.class);
    private BiFunction<ServerCall<?, ?>, Metadata, String> clientAddress = GrpcGuard::peerAddress;

    private Builder(AuthClient client) {
      this.client = Objects.requireNonNull(client, "client");
    }

    /**
     * Sets the scopes that a method requires, or all methods of a service: {@code
     * package.Service/Method} or {@code package.Service/*}. Without scopes, every valid credential
     * is accepted. The entry of a method precedes that of its service.
     */
    public Builder scopes(String pattern, String... scopes) {
      access.add(pattern, new Access.Rule(Arguments.scopes(Arrays.asList(scopes)), false));
      return this;
    }

    /**
     * Sets the scopes that all other methods require. Without this, methods that are not listed are
     * refused.
     */
    public Builder scopesOfAllOthers(String... scopes) {
      access.setForAll(Arguments.scopes(Arrays.asList(scopes)));
      return this;
    }

    /** Sets the methods, in the same form, that require no credential. */
    public Builder open(String... patterns) {
      for (String pattern : patterns) {
        access.add(pattern, new Access.Rule(List.of(), true));
      }
      return this;
    }

    /** Sets the accepted types of credentials; both by default. */
    public Builder accept(CredentialType... types) {
      accept = Set.of(types);
      return this;
    }

    /**
     * Sets what returns the address of the user for a call. By default it is that of the peer of
     * the connection. Behind a proxy that is the proxy: read the address where your proxy puts it,
     * or return "".
     */
    public Builder clientAddress(BiFunction<ServerCall<?, ?>, Metadata, String> address) {
      clientAddress = Objects.requireNonNull(address, "address");
      return this;
    }

    /** Returns the guard. Throws IllegalArgumentException if no method is listed. */
    public GrpcGuard build() {
      if (access.isEmpty()) {
        throw new IllegalArgumentException(
            "no method is listed, so every call would be refused; use scopes");
      }
      return new GrpcGuard(this);
    }
  }
}
