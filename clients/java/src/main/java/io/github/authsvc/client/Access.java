package io.github.authsvc.client;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Which scopes each method requires. A method's own rule precedes its service's, and that the
 * default.
 */
final class Access {
  private static final Pattern PATTERN =
      Pattern.compile("/?([A-Za-z_][A-Za-z0-9_.]*/(?:[A-Za-z_][A-Za-z0-9_]*|\\*))");

  private final Map<String, Rule> rules = new HashMap<>();
  private Rule forAll;

  /** All of these scopes, or no credential if it is public. */
  record Rule(List<String> scopes, boolean isPublic) {}

  void setForAll(List<String> scopes) {
    forAll = new Rule(scopes, false);
  }

  /** Throws IllegalArgumentException for an invalid pattern, and for one that is listed twice. */
  void add(String pattern, Rule rule) {
    Matcher matcher = PATTERN.matcher(pattern);
    if (!matcher.matches()) {
      throw new IllegalArgumentException(
          Arguments.quoted(pattern)
              + " is not a valid pattern; use package.Service/Method or package.Service/*");
    }
    if (rules.putIfAbsent(matcher.group(1), rule) != null) {
      throw new IllegalArgumentException(matcher.group(1) + " is listed twice");
    }
  }

  boolean isEmpty() {
    return rules.isEmpty() && forAll == null;
  }

  /** Returns the rule for {@code package.Service/Method}, or null if it is not listed. */
  Rule rule(String method) {
    Rule own = rules.get(method);
    if (own != null) {
      return own;
    }
    return rules.getOrDefault(method.substring(0, method.lastIndexOf('/') + 1) + "*", forAll);
  }
}
