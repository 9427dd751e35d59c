package io.github.authsvc.client;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * What guards of gRPC and HTTP have in common: the verification of one request. Every failure is a
 * refusal.
 */
final class Guard {
  private static final Logger LOG = System.getLogger("io.github.authsvc.client");
  // The minimum time between two lines about one kind of problem, since in an outage every request
  // has it.
  private static final long LOG_INTERVAL_NANOS = Duration.ofSeconds(1).toNanos();

  private final AuthClient client;
  private final Set<CredentialType> accept;
  private final Map<Class<?>, Logged> logged = new ConcurrentHashMap<>();

  /** When a kind of problem was last logged, and how often it has occurred since. */
  private record Logged(long at, long more) {}

  /** What reads the parts of a request. It may fail. */
  interface Request {
    List<Header> headers();

    String clientIp();

    /** Returns the time that the caller has left, or null. */
    Duration left();
  }

  Guard(AuthClient client, Set<CredentialType> accept) {
    if (accept.isEmpty()) {
      throw new IllegalArgumentException("accept is empty; give at least one type of credential");
    }
    this.client = client;
    this.accept = Set.copyOf(accept);
  }

  /** Returns the caller; {@code name} says in the log which request it is. */
  Identity identify(String name, Request request, List<String> scopes) throws Refusal {
    try {
      return Identity.of(verify(request, scopes), scopes);
    } catch (UnavailableException error) {
      tell(Level.WARNING, error, name, error.getMessage(), null);
      throw Refusal.unavailable(error.retryAfter().orElse(null));
    } catch (RefusedException error) {
      tell(
          Level.ERROR,
          error,
          name,
          error.getMessage() + "; retrying does not help: fix the cause",
          null);
      throw Refusal.unavailable(null);
    } catch (RuntimeException error) {
      // Without its message, which could contain the credential.
      RuntimeException shown = new RuntimeException(error.getClass().getName());
      shown.setStackTrace(error.getStackTrace());
      tell(Level.ERROR, error, name, error.getClass().getName(), shown);
      throw Refusal.unavailable(null);
    }
  }

  private Verdict verify(Request request, List<String> scopes) throws Refusal {
    List<Header> headers = request.headers();
    String credential = Presented.in(headers);
    CredentialType type = CredentialType.of(credential);
    if (!accept.contains(type)) {
      return Verdict.notFound(type);
    }
    Duration left = request.left();
    Duration deadline =
        left == null || left.compareTo(client.deadline()) > 0 ? client.deadline() : left;
    VerifyOptions options =
        VerifyOptions.requiring(scopes).clientIp(request.clientIp()).deadline(deadline);
    String agent = agent(headers);
    if (type == CredentialType.KEY) {
      // Also that of gRPC libraries, which is the program here.
      return client.verifyKey(credential, options.userAgent(agent));
    }
    // That of a gRPC library is the same on every device.
    String ofUser = agent.contains("grpc-") ? "" : agent;
    return client.verifySession(credential, options.userAgent(ofUser).headers(headers));
  }

  private static String agent(List<Header> headers) {
    return headers.stream()
        .filter(header -> header.name().equalsIgnoreCase("user-agent"))
        .map(Header::value)
        .findFirst()
        .orElse("");
  }

  private void tell(Level level, Exception error, String name, String problem, Throwable shown) {
    long now = System.nanoTime();
    Logged before = logged.get(error.getClass());
    if (before != null && now - before.at() < LOG_INTERVAL_NANOS) {
      logged.put(error.getClass(), new Logged(before.at(), before.more() + 1));
      return;
    }
    logged.put(error.getClass(), new Logged(now, 0));
    String more =
        before == null || before.more() == 0
            ? ""
            : " (" + before.more() + " more since this was last logged)";
    try {
      LOG.log(level, name + " cannot be authenticated" + more + ": " + problem, shown);
    } catch (RuntimeException ofTheLog) {
      // A log that fails lets no request through, and hides no refusal.
    }
  }
}
