package io.github.authsvc.client;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * Calls of authsvc: with the client's own key, within a deadline, and retried where that is safe.
 */
final class Calls {
  static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
  // A worker that does not answer within this time may be hanging. Missing a shorter deadline
  // proves nothing.
  private static final long HANGING_AFTER_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
  private static final double FIRST_WAIT_NANOS = TimeUnit.MILLISECONDS.toNanos(50);
  private static final double MAX_WAIT_NANOS = TimeUnit.SECONDS.toNanos(1);
  private static final Pattern READS =
      Pattern.compile("(?:Get|List|Lookup|Preview|Verify|BatchVerify).*");
  private static final Set<String> REVOKES_ONE = Set.of("RevokeKey", "RevokeSession");

  private final Connections connections;
  private final OwnKey ownKey;
  private final int attempts;

  Calls(Connections connections, OwnKey ownKey, int attempts) {
    this.connections = connections;
    this.ownKey = ownKey;
    this.attempts = attempts;
  }

  /**
   * Calls until there is an answer, no attempts are left, or the deadline would pass. Only
   * UNAVAILABLE is retried, almost at once, since another worker may be able to answer.
   * RESOURCE_EXHAUSTED is not: an overloaded service needs fewer calls.
   */
  <Q extends Message, A extends Message> A unary(
      MethodDescriptor<Q, A> method, Q request, Duration deadline) {
    long ends = System.nanoTime() + nanos(deadline);
    int most = isSafeToRetry(method.getBareMethodName(), request) ? attempts : 1;
    for (int attempt = 1; ; attempt++) {
      timeLeft(ends);
      Connections.Connection connection = connections.next();
      Channel channel = withHeader(connection.channel(), ownKey.header());
      // Again, since whatever supplies the key may have taken long.
      long left = timeLeft(ends);
      CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(left, TimeUnit.NANOSECONDS);
      try {
        return ClientCalls.blockingUnaryCall(channel, method, options, request);
      } catch (StatusRuntimeException failed) {
        ClientException error =
            connections.isClosed() ? ClientException.closed() : ClientException.of(failed);
        if (error.code() == Status.Code.DEADLINE_EXCEEDED && left > HANGING_AFTER_NANOS) {
          connection.pause();
        }
        long pause = pauseNanos(attempt, ThreadLocalRandom.current().nextDouble());
        boolean isRetried = error.code() == Status.Code.UNAVAILABLE && attempt < most;
        if (!isRetried || System.nanoTime() + pause >= ends || !slept(pause)) {
          throw error;
        }
      }
    }
  }

  /** Returns how long to wait after attempt 1, 2, …: exponential backoff with jitter. */
  static long pauseNanos(int attempt, double spread) {
    double longest =
        Math.min(MAX_WAIT_NANOS, FIRST_WAIT_NANOS * Math.pow(2, Math.min(attempt - 1, 16)));
    return (long) (longest * (0.5 + 0.5 * spread));
  }

  /** Returns whether a second call changes nothing that the first one has not changed. */
  static boolean isSafeToRetry(String method, Message request) {
    return READS.matcher(method).matches() || REVOKES_ONE.contains(method) || hasRequestId(request);
  }

  private static boolean hasRequestId(Message request) {
    FieldDescriptor field = request.getDescriptorForType().findFieldByName("request_id");
    return field != null && !request.getField(field).equals(field.getDefaultValue());
  }

  private static long timeLeft(long ends) {
    long left = ends - System.nanoTime();
    if (left <= 0) {
      throw ClientException.timeIsOver();
    }
    return left;
  }

  private static Channel withHeader(Channel channel, String header) {
    if (header.isEmpty()) {
      return channel;
    }
    Metadata metadata = new Metadata();
    metadata.put(AUTHORIZATION, header);
    return ClientInterceptors.intercept(
        channel, MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  // A deadline of many years is none.
  private static long nanos(Duration deadline) {
    return deadline.compareTo(Duration.ofDays(365)) > 0
        ? Duration.ofDays(365).toNanos()
        : deadline.toNanos();
  }

  // A thread that is interrupted does not wait.
  private static boolean slept(long nanos) {
    try {
      TimeUnit.NANOSECONDS.sleep(nanos);
      return true;
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      return false;
    }
  }
}
