package io.github.authsvc.client;

import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The connections to authsvc. The workers of a replica share a port, and each connection leads to
 * one of them for good, so there are several channels. A worker that reports through grpc.health.v1
 * that it cannot answer is left out. A channel that missed a deadline is left alone for a while as
 * long as others work.
 */
final class Connections implements AutoCloseable {
  private static final long PAUSE_NANOS = Duration.ofSeconds(5).toNanos();
  private static final long RECONNECT_NANOS = Duration.ofSeconds(2).toNanos();
  private static final Map<String, ?> SERVICE_CONFIG =
      Map.of(
          "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
          "healthCheckConfig", Map.of("serviceName", "authsvc.v1.KeyService"));

  private final List<Connection> all = new ArrayList<>();
  private final AtomicInteger turn = new AtomicInteger();
  private volatile boolean isClosed;

  /** One channel. */
  static final class Connection {
    private final ManagedChannel channel;
    private volatile long pausedAt = System.nanoTime() - PAUSE_NANOS;
    private volatile long triedAt = System.nanoTime() - RECONNECT_NANOS;

    Connection(ManagedChannel channel) {
      this.channel = channel;
    }

    Channel channel() {
      return channel;
    }

    private void whenReady(Runnable then) {
      ConnectivityState state = channel.getState(true);
      if (state == ConnectivityState.READY) {
        then.run();
      } else {
        channel.notifyWhenStateChanged(state, () -> whenReady(then));
      }
    }

    /** Prefers other channels for a while, because a call on this one was not answered in time. */
    void pause() {
      pausedAt = System.nanoTime();
    }

    boolean isPaused() {
      return System.nanoTime() - pausedAt < PAUSE_NANOS;
    }

    /**
     * Returns whether it is connected. If not, it connects; by itself, gRPC would wait for up to
     * two minutes.
     */
    boolean isReady() {
      ConnectivityState state = channel.getState(true);
      if (state == ConnectivityState.TRANSIENT_FAILURE
          && System.nanoTime() - triedAt >= RECONNECT_NANOS) {
        triedAt = System.nanoTime();
        channel.resetConnectBackoff();
      }
      return state == ConnectivityState.READY;
    }
  }

  /** Starts to connect. {@code tls} is null for plain text. */
  Connections(String target, Tls tls, int number) {
    ChannelCredentials credentials =
        tls == null ? InsecureChannelCredentials.create() : tls.credentials();
    for (int n = 0; n < number; n++) {
      ManagedChannelBuilder<?> builder =
          Grpc.newChannelBuilder(target, credentials)
              .defaultServiceConfig(SERVICE_CONFIG)
              .disableServiceConfigLookUp()
              // A proxy that the machine is set to would get our key and could answer VALID by
              // itself.
              .proxyDetector(address -> null)
              // authsvc accepts a ping every five seconds.
              .keepAliveTime(20, TimeUnit.SECONDS)
              .keepAliveTimeout(5, TimeUnit.SECONDS)
              .keepAliveWithoutCalls(true);
      if (tls != null && tls.serverName() != null) {
        builder.overrideAuthority(tls.serverName());
      }
      all.add(new Connection(builder.build()));
    }
    all.forEach(Connection::isReady);
  }

  boolean isClosed() {
    return isClosed;
  }

  /** Returns the next one that is ready and not paused, or else is ready, or else the next one. */
  Connection next() {
    if (isClosed) {
      throw ClientException.closed();
    }
    int first = Math.floorMod(turn.getAndIncrement(), all.size());
    Connection ready = null;
    for (int ahead = 0; ahead < all.size(); ahead++) {
      Connection connection = all.get((first + ahead) % all.size());
      if (connection.isReady()) {
        if (!connection.isPaused()) {
          return connection;
        }
        ready = ready == null ? connection : ready;
      }
    }
    return ready == null ? all.get(first) : ready;
  }

  /** Waits until all are ready, for tests. */
  void await(Duration most) {
    CountDownLatch ready = new CountDownLatch(all.size());
    all.forEach(connection -> connection.whenReady(ready::countDown));
    try {
      ready.await(most.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** Closes the channels and ends calls in flight. */
  @Override
  public void close() {
    isClosed = true;
    all.forEach(connection -> connection.channel.shutdownNow());
  }
}
