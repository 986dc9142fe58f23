package awsim

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// queryXML is the protocol of STS and IAM: a form goes in, XML comes out (S-06).
type queryXML struct{ namespace string }

func (p queryXML) answer(w http.ResponseWriter, op string, result any) error {
	response := xml.StartElement{Name: xml.Name{Local: op + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: p.namespace}}}
	w.Header().Set("Content-Type", "text/xml")
	e := xml.NewEncoder(w)
	if err := e.EncodeToken(response); err != nil {
		return err
	}
	if result != nil {
		if err := e.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: op + "Result"}}); err != nil {
			return err
		}
	}
	meta := struct{ RequestId string }{w.Header().Get("X-Amzn-Requestid")}
	if err := e.EncodeElement(meta, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}}); err != nil {
		return err
	}
	if err := e.EncodeToken(response.End()); err != nil {
		return err
	}
	return e.Close()
}

func (p queryXML) fail(w http.ResponseWriter, e *apiError) error {
	var body struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		XMLNS   string   `xml:"xmlns,attr"`
		Error   struct{ Type, Code, Message string }
		Request string `xml:"RequestId"`
	}
	body.XMLNS, body.Request = p.namespace, w.Header().Get("X-Amzn-Requestid")
	body.Error.Type, body.Error.Code, body.Error.Message = "Sender", queryCode(e.code), e.message
	if e.status >= http.StatusInternalServerError {
		body.Error.Type = "Receiver"
	}
	data, err := xml.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(e.status)
	_, err = w.Write(data)
	return err
}

// queryCode gives errors of the signature the names that the query protocol has for them.
func queryCode(code string) string {
	switch code {
	case "UnrecognizedClientException":
		return "InvalidClientTokenId"
	case "ExpiredTokenException":
		return "ExpiredToken"
	case "InvalidSignatureException":
		return "SignatureDoesNotMatch"
	case "InternalFailureException":
		return "InternalFailure"
	}
	return code
}

// routeQuery makes the handler of a service that routes by the form's Action.
func (s *Sim) routeQuery(name string, p queryXML, operations []operation) http.Handler {
	byName := map[string]*operation{}
	for _, op := range operations {
		byName[op.name] = &op
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.write(p.fail(w, asAPI(err)))
			return
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			s.write(p.fail(w, validationError("the body is not a form")))
			return
		}
		op, ok := byName[form.Get("Action")]
		if !ok {
			s.write(p.fail(w, notSimulated(name+" "+form.Get("Action"))))
			return
		}
		r.Body = bodyOf(body)
		s.perform(w, r, p, op)
	})
}

func validationError(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "ValidationError", format, args...)
}

// form is the call's body in the query protocol; it was parsed once already.
func (c *call) form() url.Values {
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return url.Values{}
	}
	return form
}

// formTags reads Tags.member.N.Key and .Value.
func formTags(form url.Values) []tag {
	var list []tag
	for n := 1; n <= maxTags; n++ {
		prefix := "Tags.member." + strconv.Itoa(n)
		if !form.Has(prefix + ".Key") {
			break
		}
		list = append(list, tag{form.Get(prefix + ".Key"), form.Get(prefix + ".Value")})
	}
	return list
}
