package authsvc

import "strings"

// presentedIn returns the one credential in the values of authorization and x-api-key.
//
// An empty value counts as not sent. A header that is sent twice is refused, on two lines or joined with a comma; so
// are two different credentials: it is unclear which one counts.
func presentedIn(authorization, apiKey []string) (string, *refusal) {
	bearer, refused := bearerIn(values(authorization))
	if refused != nil {
		return "", refused
	}
	key, refused := one(values(apiKey))
	switch {
	case refused != nil:
		return "", refused
	case bearer == "" && key == "":
		return "", unauthenticated("send your key: authorization: Bearer <key string>", "CREDENTIAL_MISSING")
	case bearer != "" && key != "" && bearer != key:
		return "", ambiguous()
	case bearer == "":
		return key, nil
	}
	return bearer, nil
}

// values returns the values of a header that are not empty. Proxies join those of several lines with commas.
func values(lines []string) []string {
	var found []string
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if text := strings.TrimSpace(part); text != "" {
				found = append(found, text)
			}
		}
	}
	return found
}

func one(values []string) (string, *refusal) {
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", ambiguous()
}

func bearerIn(values []string) (string, *refusal) {
	isBearer := len(values) == 0
	for _, value := range values { // a value of another scheme can contain commas
		isBearer = isBearer || strings.EqualFold(strings.Fields(value)[0], "bearer")
	}
	if !isBearer {
		return "", unauthenticated("the authorization header has an unsupported scheme; use: Bearer <key string>",
			"CREDENTIAL_SCHEME")
	}
	value, refused := one(values)
	if refused != nil || value == "" {
		return "", refused
	}
	return strings.TrimSpace(value[len("bearer"):]), nil
}
