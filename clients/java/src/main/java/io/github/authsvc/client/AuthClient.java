package io.github.authsvc.client;

import com.google.protobuf.Message;
import io.github.authsvc.v1.KeyServiceGrpc;
import io.github.authsvc.v1.SessionServiceGrpc;
import io.github.authsvc.v1.VerifyKeyRequest;
import io.github.authsvc.v1.VerifySessionRequest;
import io.github.authsvc.v1.VerifyTokenRequest;
import io.grpc.MethodDescriptor;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.function.Supplier;

/**
 * Verifies credentials with authsvc. One client is enough for a process, and any number of threads
 * may use it.
 *
 * <pre>{@code
 * AuthClient client = AuthClient.builder("authsvc.internal:50051")
 *     .keyFile(Path.of("/run/secrets/authsvc.key"))
 *     .build();
 * Verdict verdict = client.verifyKey(presented, VerifyOptions.requiring("orders:read"));
 * }</pre>
 *
 * <p>A bad credential is an answer. What is thrown is {@link UnavailableException} if the answer is
 * not known at the moment, and {@link RefusedException} if authsvc refuses the client itself or its
 * request. The methods wait for the answer, at most until the deadline.
 */
public final class AuthClient implements AutoCloseable {
  // Key strings and session tokens are much shorter than this. Longer texts are not sent.
  private static final int MAX_CREDENTIAL_LENGTH = 1024;
  private static final int MAX_TOKEN_LENGTH = 8192;
  // How long a call may take that is no verification. A change may wait for the lease of a worker
  // that is cut off.
  private static final Duration RPC_DEADLINE = Duration.ofSeconds(60);

  private final Duration deadline;
  private final Connections connections;
  private final Calls calls;
  private final String address;

  private AuthClient(Builder builder) {
    address = builder.address;
    deadline = builder.deadline;
    connections = new Connections(address, builder.tls, builder.connections);
    calls = new Calls(connections, builder.ownKey, builder.attempts);
  }

  /**
   * Returns what builds a client for an address: {@code host:port}, or another target that gRPC
   * resolves.
   */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /** Returns the time for a verification with all its attempts. */
  public Duration deadline() {
    return deadline;
  }

  /** Returns the verdict on a presented key string. A VALID verdict counts as a use. */
  public Verdict verifyKey(String keyString, VerifyOptions options) {
    String presented = keyString.strip();
    if (isMalformed(presented, MAX_CREDENTIAL_LENGTH)) {
      return Verdict.notFound(CredentialType.KEY);
    }
    VerifyKeyRequest.Builder request =
        VerifyKeyRequest.newBuilder()
            .setKeyString(presented)
            .addAllRequiredScopes(options.requiredScopes())
            .addAllAnyOfScopes(options.anyOfScopes())
            .setClientIp(options.clientIp())
            .setUserAgent(options.userAgent());
    if (options.cost() != null) {
      request.setCost(options.cost());
    }
    return Verdict.of(
        calls.unary(KeyServiceGrpc.getVerifyKeyMethod(), request.build(), deadlineOf(options)),
        options.anyOfScopes());
  }

  /** Returns the verdict on a presented key string, which must have all of these scopes. */
  public Verdict verifyKey(String keyString, String... requiredScopes) {
    return verifyKey(keyString, VerifyOptions.requiring(requiredScopes));
  }

  /** Returns the verdict on a presented session token. A VALID verdict counts as activity. */
  public Verdict verifySession(String sessionToken, VerifyOptions options) {
    String presented = sessionToken.strip();
    if (isMalformed(presented, MAX_CREDENTIAL_LENGTH)) {
      return Verdict.notFound(CredentialType.SESSION);
    }
    VerifySessionRequest.Builder request =
        VerifySessionRequest.newBuilder()
            .setSessionToken(presented)
            .addAllRequiredScopes(options.requiredScopes())
            .addAllAnyOfScopes(options.anyOfScopes())
            .setClientIp(options.clientIp())
            .setUserAgent(options.userAgent());
    var hints = Arguments.hints(options.headers());
    if (hints != null) {
      request.setClientHints(hints);
    }
    return Verdict.of(
        calls.unary(
            SessionServiceGrpc.getVerifySessionMethod(), request.build(), deadlineOf(options)),
        options.anyOfScopes());
  }

  /**
   * Returns the verdict on a presented token of DeriveToken. {@code audience} is the name of this
   * service, which the token has to be for. The verdict is about the key or session that the token
   * was derived from; its scopes are those of the token.
   */
  public Verdict verifyToken(String token, String audience, VerifyOptions options) {
    String presented = token.strip();
    if (isMalformed(presented, MAX_TOKEN_LENGTH)) {
      return Verdict.notFound(CredentialType.KEY);
    }
    VerifyTokenRequest.Builder request =
        VerifyTokenRequest.newBuilder()
            .setToken(presented)
            .setAudience(audience)
            .addAllRequiredScopes(options.requiredScopes())
            .addAllAnyOfScopes(options.anyOfScopes())
            .setClientIp(options.clientIp());
    if (options.cost() != null) {
      request.setCost(options.cost());
    }
    return Verdict.of(
        calls.unary(KeyServiceGrpc.getVerifyTokenMethod(), request.build(), deadlineOf(options)),
        options.anyOfScopes());
  }

  /**
   * Calls any RPC of authsvc with this client's key, within 60 seconds, because a change waits
   * until all workers know of it: {@code client.call(KeyServiceGrpc.getGetKeyMethod(), request)}.
   * It is retried if it only reads, revokes one key or session, or has a {@code request_id}. Throws
   * the exceptions of this package.
   */
  public <Q extends Message, A extends Message> A call(MethodDescriptor<Q, A> method, Q request) {
    return call(method, request, RPC_DEADLINE);
  }

  /** Calls any RPC of authsvc with another deadline. */
  public <Q extends Message, A extends Message> A call(
      MethodDescriptor<Q, A> method, Q request, Duration deadline) {
    if (method.getType() != MethodDescriptor.MethodType.UNARY) {
      throw new IllegalArgumentException("streams are only for the Python client");
    }
    return calls.unary(method, request, deadline);
  }

  /** Closes the connections. Calls in flight end with {@link UnavailableException}. */
  @Override
  public void close() {
    connections.close();
  }

  @Override
  public String toString() {
    return "AuthClient(" + address + ")";
  }

  /** Waits until there is a connection, for tests. */
  void awaitConnection(Duration most) {
    connections.await(most);
  }

  private Duration deadlineOf(VerifyOptions options) {
    return options.deadline() == null ? deadline : options.deadline();
  }

  // Such a text cannot be a credential of authsvc, and perhaps cannot even be sent.
  private static boolean isMalformed(String presented, int maxLength) {
    return presented.isEmpty()
        || presented.length() > maxLength
        || !presented.chars().allMatch(each -> each < 0x80);
  }

  /** Builds a client. Set where its own key comes from; everything else has a default. */
  public static final class Builder {
    private final String address;
    private OwnKey ownKey;
    private Tls tls = Tls.DEFAULT;
    private boolean isInsecure;
    private Duration deadline = Duration.ofSeconds(1);
    private int attempts = 5;
    private int connections = 4;

    private Builder(String address) {
      this.address = Objects.requireNonNull(address, "address");
    }

    /** Sets the client's own key string. */
    public Builder key(String keyString) {
      return own(OwnKey.of(keyString));
    }

    /**
     * Sets what returns the client's own key string. It is called for each attempt, within the
     * deadline. Of what it throws only the type is shown: the message could contain the key.
     */
    public Builder key(Supplier<String> keyString) {
      return own(OwnKey.of(keyString));
    }

    /**
     * Sets the file that contains the client's own key string. It is read again when it changes.
     */
    public Builder keyFile(Path file) {
      return own(OwnKey.of(file));
    }

    /** Sends no key. This is for a client that a certificate names. */
    public Builder withoutKey() {
      return own(OwnKey.none());
    }

    /** Sets the trusted authority and the client certificate. */
    public Builder tls(Tls files) {
      tls = Objects.requireNonNull(files, "tls");
      return this;
    }

    /** Connects in plain text, which is for this machine only. */
    public Builder plaintext() {
      tls = null;
      return this;
    }

    /**
     * Connects in plain text to other machines as well, where a lower layer encrypts. The words are
     * {@code "plaintext-beyond-loopback"}.
     */
    public Builder insecure(String words) {
      if (!words.equals("plaintext-beyond-loopback")) {
        throw new IllegalArgumentException("insecure has to be \"plaintext-beyond-loopback\"");
      }
      isInsecure = true;
      return plaintext();
    }

    /** Sets the time for a verification with all its attempts; one second by default. */
    public Builder deadline(Duration time) {
      deadline = Objects.requireNonNull(time, "deadline");
      return this;
    }

    /**
     * Sets how often a call is attempted; 5 by default. Only UNAVAILABLE is retried, on another
     * connection.
     */
    public Builder attempts(int number) {
      attempts = number;
      return this;
    }

    /**
     * Sets how many connections there are to each address; 4 by default. Use as many as a replica
     * has workers.
     */
    public Builder connections(int number) {
      connections = number;
      return this;
    }

    /**
     * Returns the client, which starts to connect. Throws IllegalArgumentException for what cannot
     * be meant.
     */
    public AuthClient build() {
      if (ownKey == null) {
        throw new IllegalArgumentException(
            "set key or keyFile; withoutKey is for a client that a certificate names (tls)");
      }
      if (deadline.isNegative() || deadline.isZero() || attempts < 1 || connections < 1) {
        throw new IllegalArgumentException("deadline, attempts and connections must be positive");
      }
      if (tls == null && !isInsecure && !Target.isLocal(address)) {
        throw new IllegalArgumentException(
            "keys would be sent to "
                + address
                + " in plain text; leave plaintext() out, or set tls. If a lower layer encrypts the"
                + " traffic, use insecure(\"plaintext-beyond-loopback\")");
      }
      return new AuthClient(this);
    }

    private Builder own(OwnKey source) {
      if (ownKey != null) {
        throw new IllegalArgumentException("set only one of key, keyFile and withoutKey");
      }
      ownKey = source;
      return this;
    }
  }
}
