package awsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
)

// matches verifies a signature of AWS Signature Version 4 with the secret of its access key.
func (s *signature) matches(r *http.Request, body []byte, secret string) bool {
	scope := s.day + "/" + s.region + "/" + s.service + "/aws4_request"
	sum := sha256.Sum256([]byte(s.canonical(r, body)))
	toSign := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.day, s.region, s.service, "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	got, err := hex.DecodeString(s.value)
	return err == nil && hmac.Equal(got, key)
}

// canonical is the request in the one form that both sides hash.
func (s *signature) canonical(r *http.Request, body []byte) string {
	payload := sha256.Sum256(body)
	lines := []string{r.Method, canonicalPath(r.URL.EscapedPath()), canonicalQuery(r.URL.RawQuery)}
	for _, name := range s.headers {
		lines = append(lines, name+":"+canonicalHeader(r, name))
	}
	return strings.Join(append(lines, "", strings.Join(s.headers, ";"), hex.EncodeToString(payload[:])), "\n")
}

func canonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		if v := r.Header.Get(name); v == "" && r.ContentLength >= 0 { // net/http takes it out of the headers
			return formatLength(r.ContentLength)
		}
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// canonicalPath encodes the escaped path once more, as every service but S3 wants it.
func canonicalPath(escaped string) string {
	if escaped == "" {
		return "/"
	}
	return escape(escaped, true)
}

func canonicalQuery(raw string) string {
	if raw == "" {
		return ""
	}
	var pairs []string
	for pair := range strings.SplitSeq(raw, "&") {
		if !strings.Contains(pair, "=") {
			pair += "="
		}
		pairs = append(pairs, strings.ReplaceAll(pair, "+", "%20"))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape percent-encodes all but the unreserved characters of RFC 3986 section 2.3, and slashes where asked.
func escape(s string, keepSlash bool) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~", c) >= 0
		if plain || keepSlash && c == '/' {
			out.WriteByte(c)
			continue
		}
		out.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
	}
	return out.String()
}
