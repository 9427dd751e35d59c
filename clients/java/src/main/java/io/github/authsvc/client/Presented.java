package io.github.authsvc.client;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/**
 * The credential that a request presents: in {@code authorization: Bearer …} (RFC 6750) or in
 * {@code x-api-key}. An empty header counts as not sent. A header that is sent twice is refused, on
 * two lines or joined with a comma.
 */
final class Presented {
  private Presented() {}

  /**
   * Returns the one credential in headers. Throws Refusal if there is none, another scheme, or
   * several.
   */
  static String in(Iterable<Header> headers) throws Refusal {
    List<String> authorizations = new ArrayList<>();
    List<String> apiKeys = new ArrayList<>();
    for (Header header : headers) {
      if (header.name().equalsIgnoreCase("authorization")) {
        addValues(authorizations, header.value());
      } else if (header.name().equalsIgnoreCase("x-api-key")) {
        addValues(apiKeys, header.value());
      }
    }
    Set<String> found = new LinkedHashSet<>(List.of(bearer(authorizations), one(apiKeys)));
    found.remove("");
    if (found.isEmpty()) {
      throw Refusal.missingCredential();
    }
    if (found.size() > 1) {
      throw Refusal.ambiguous();
    }
    return found.iterator().next();
  }

  // Proxies join the values of several lines with commas.
  private static void addValues(List<String> values, String line) {
    for (String part : line.split(",")) {
      if (!part.isBlank()) {
        values.add(part.strip());
      }
    }
  }

  private static String one(List<String> values) throws Refusal {
    if (values.size() > 1) {
      throw Refusal.ambiguous();
    }
    return values.isEmpty() ? "" : values.get(0);
  }

  private static String bearer(List<String> values) throws Refusal {
    // A value of another scheme can contain commas.
    if (!values.isEmpty() && values.stream().noneMatch(Presented::isBearer)) {
      throw Refusal.scheme();
    }
    String[] parts = one(values).split("\\s+", 2);
    return parts.length < 2 ? "" : parts[1];
  }

  private static boolean isBearer(String value) {
    return value.split("\\s+", 2)[0].equalsIgnoreCase("bearer");
  }
}
