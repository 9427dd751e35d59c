package io.github.authsvc.client;

import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * What a verification asks for. An object of this class does not change: each method returns
 * another one.
 *
 * <pre>{@code
 * client.verifyKey(presented, VerifyOptions.requiring("orders:read").clientIp(address));
 * }</pre>
 */
public final class VerifyOptions {
  /** Asks only whether the credential is valid. */
  public static final VerifyOptions NONE = new VerifyOptions();

  private List<String> requiredScopes = List.of();
  private List<String> anyOfScopes = List.of();
  private String clientIp = "";
  private String userAgent = "";
  private List<Header> headers = List.of();
  private Integer cost;
  private Duration deadline;

  private VerifyOptions() {}

  private VerifyOptions(VerifyOptions from) {
    requiredScopes = from.requiredScopes;
    anyOfScopes = from.anyOfScopes;
    clientIp = from.clientIp;
    userAgent = from.userAgent;
    headers = from.headers;
    cost = from.cost;
    deadline = from.deadline;
  }

  /**
   * The credential must have all of these scopes. Throws IllegalArgumentException for an invalid
   * one.
   */
  public static VerifyOptions requiring(String... scopes) {
    return requiring(Arrays.asList(scopes));
  }

  /**
   * The credential must have all of these scopes. Throws IllegalArgumentException for an invalid
   * one.
   */
  public static VerifyOptions requiring(Iterable<String> scopes) {
    VerifyOptions made = new VerifyOptions();
    made.requiredScopes = Arguments.scopes(scopes);
    return made;
  }

  /** The credential must have one of these scopes, unless there are none. */
  public VerifyOptions anyOf(String... scopes) {
    VerifyOptions made = new VerifyOptions(this);
    made.anyOfScopes = Arguments.scopes(Arrays.asList(scopes));
    return made;
  }

  /** The address of whoever presents the credential. A value that is not an address is ignored. */
  public VerifyOptions clientIp(String address) {
    VerifyOptions made = new VerifyOptions(this);
    made.clientIp = Arguments.address(address);
    return made;
  }

  /** The user agent of whoever presents the credential. */
  public VerifyOptions userAgent(String agent) {
    VerifyOptions made = new VerifyOptions(this);
    made.userAgent = Arguments.agent(agent);
    return made;
  }

  /**
   * The headers of the user's request, for sessions: only the client hints ({@code sec-ch-ua-…})
   * are used.
   */
  public VerifyOptions headers(List<Header> sent) {
    VerifyOptions made = new VerifyOptions(this);
    made.headers = List.copyOf(sent);
    return made;
  }

  /** How many units are taken from the rate limits and credits of a key; 1 by default. */
  public VerifyOptions cost(int units) {
    if (units < 0) {
      throw new IllegalArgumentException("cost must not be negative");
    }
    VerifyOptions made = new VerifyOptions(this);
    made.cost = units;
    return made;
  }

  /** Replaces the deadline of the client. */
  public VerifyOptions deadline(Duration time) {
    VerifyOptions made = new VerifyOptions(this);
    made.deadline = Objects.requireNonNull(time, "deadline");
    return made;
  }

  List<String> requiredScopes() {
    return requiredScopes;
  }

  List<String> anyOfScopes() {
    return anyOfScopes;
  }

  String clientIp() {
    return clientIp;
  }

  String userAgent() {
    return userAgent;
  }

  List<Header> headers() {
    return headers;
  }

  Integer cost() {
    return cost;
  }

  Duration deadline() {
    return deadline;
  }
}
