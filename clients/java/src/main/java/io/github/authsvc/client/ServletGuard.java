package io.github.authsvc.client;

import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletRequestWrapper;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumSet;
import java.util.Enumeration;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.function.Function;

/**
 * A servlet filter that verifies the credential of each request before the application is called.
 *
 * <pre>{@code
 * Filter guard = ServletGuard.builder(client).scopes("orders:read").build();
 * context.addFilter("orders", guard)
 *     .addMappingForUrlPatterns(EnumSet.of(DispatcherType.REQUEST), false, "/orders/*");
 * // and in a servlet or controller:
 * String owner = ServletGuard.caller(request).ownerId();
 * }</pre>
 *
 * <p>Everything that is not plainly good is refused: with 401, 403, 429, or, if the credential
 * cannot be verified at the moment, with 503; the cause of that is in the log only. The thread of
 * the request waits for the verdict. Use one filter for each set of scopes, and map it to the paths
 * that require them. The application does not see the credential, and no {@code x-auth-…} headers,
 * which nobody has verified.
 */
public final class ServletGuard implements Filter {
  private static final String IDENTITY = "authsvc.identity";
  private static final Set<String> CREDENTIAL_HEADERS = Set.of("authorization", "x-api-key");
  private static final Set<String> IDENTITY_HEADERS =
      Set.of(
          "x-auth-key-id",
          "x-auth-session-id",
          "x-auth-owner-id",
          "x-auth-scopes",
          "x-auth-credential-type");

  private final Guard guard;
  private final List<String> scopes;
  private final Function<HttpServletRequest, String> clientAddress;
  private final boolean keepsCredential;

  private ServletGuard(Builder builder) {
    guard = new Guard(builder.client, builder.accept);
    scopes = builder.scopes;
    clientAddress = builder.clientAddress;
    keepsCredential = builder.keepsCredential;
  }

  /** Returns what builds a filter that verifies with a client. */
  public static Builder builder(AuthClient client) {
    return new Builder(client);
  }

  /**
   * Returns the caller of a request. Throws IllegalStateException if no filter of this kind has
   * admitted it.
   */
  public static Identity caller(ServletRequest request) {
    if (request.getAttribute(IDENTITY) instanceof Identity identity) {
      return identity;
    }
    throw new IllegalStateException("no caller is authenticated: map a ServletGuard to this path");
  }

  @Override
  public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
      throws IOException, ServletException {
    if (!(request instanceof HttpServletRequest asked
        && response instanceof HttpServletResponse answer)) {
      throw new ServletException("a ServletGuard is for HTTP");
    }
    Identity identity;
    try {
      identity = guard.identify("a request", new HttpRequest(asked), scopes);
    } catch (Refusal refusal) {
      refuse(asked, answer, Problem.of(refusal));
      return;
    }
    asked.setAttribute(IDENTITY, identity);
    chain.doFilter(new Shown(asked, keepsCredential), answer);
  }

  private static void refuse(
      HttpServletRequest request, HttpServletResponse response, Problem problem)
      throws IOException {
    byte[] body = problem.body().getBytes(StandardCharsets.UTF_8);
    response.setStatus(problem.status());
    problem.headers().forEach(response::setHeader);
    response.setContentLength(body.length);
    if (!request.getMethod().equals("HEAD")) {
      response.getOutputStream().write(body);
    }
  }

  private final class HttpRequest implements Guard.Request {
    private final HttpServletRequest request;

    HttpRequest(HttpServletRequest request) {
      this.request = request;
    }

    @Override
    public List<Header> headers() {
      List<Header> headers = new ArrayList<>();
      for (String name : Collections.list(request.getHeaderNames())) {
        for (String value : Collections.list(request.getHeaders(name))) {
          headers.add(new Header(name, value));
        }
      }
      return headers;
    }

    @Override
    public String clientIp() {
      return Objects.requireNonNullElse(clientAddress.apply(request), "");
    }

    @Override
    public Duration left() {
      return null;
    }
  }

  /** A request as the application sees it. */
  private static final class Shown extends HttpServletRequestWrapper {
    private final boolean keepsCredential;

    Shown(HttpServletRequest request, boolean keepsCredential) {
      super(request);
      this.keepsCredential = keepsCredential;
    }

    @Override
    public String getHeader(String name) {
      return isHidden(name) ? null : super.getHeader(name);
    }

    @Override
    public Enumeration<String> getHeaders(String name) {
      return isHidden(name) ? Collections.emptyEnumeration() : super.getHeaders(name);
    }

    @Override
    public Enumeration<String> getHeaderNames() {
      List<String> names = Collections.list(super.getHeaderNames());
      return Collections.enumeration(names.stream().filter(name -> !isHidden(name)).toList());
    }

    @Override
    public int getIntHeader(String name) {
      return isHidden(name) ? -1 : super.getIntHeader(name);
    }

    @Override
    public long getDateHeader(String name) {
      return isHidden(name) ? -1 : super.getDateHeader(name);
    }

    private boolean isHidden(String name) {
      String folded = name.toLowerCase(Locale.ROOT).replace('_', '-');
      return IDENTITY_HEADERS.contains(folded)
          || (!keepsCredential && CREDENTIAL_HEADERS.contains(folded));
    }
  }

  /** Builds a filter. */
  public static final class Builder {
    private final AuthClient client;
    private List<String> scopes;
    private Set<CredentialType> accept = EnumSet.allOf(CredentialType.class);
    private Function<HttpServletRequest, String> clientAddress = ServletRequest::getRemoteAddr;
    private boolean keepsCredential;

    private Builder(AuthClient client) {
      this.client = Objects.requireNonNull(client, "client");
    }

    /**
     * Sets the scopes that the credential must have. Without any, every valid credential is
     * accepted.
     */
    public Builder scopes(String... required) {
      scopes = Arguments.scopes(Arrays.asList(required));
      return this;
    }

    /** Sets the accepted types of credentials; both by default. */
    public Builder accept(CredentialType... types) {
      accept = Set.of(types);
      return this;
    }

    /**
     * Sets what returns the address of the user for a request. By default it is that of the peer of
     * the connection. Behind a proxy that is the proxy: read the address where your proxy puts it,
     * or return "".
     */
    public Builder clientAddress(Function<HttpServletRequest, String> address) {
      clientAddress = Objects.requireNonNull(address, "address");
      return this;
    }

    /** Lets the application see the credential. */
    public Builder keepCredential() {
      keepsCredential = true;
      return this;
    }

    /** Returns the filter. Throws IllegalArgumentException if {@link #scopes} was not called. */
    public ServletGuard build() {
      if (scopes == null) {
        throw new IllegalArgumentException(
            "scopes is missing; use scopes() to accept every valid credential");
      }
      return new ServletGuard(this);
    }
  }
}
