package main

import (
	"slices"
	"testing"
)

func TestNewRows(t *testing.T) {
	batch := `{"Records":[
	 {"eventName":"INSERT","eventSource":"aws:dynamodb","dynamodb":{"Keys":{"certificate_id":{"S":"ab"}},"SequenceNumber":"1"}},
	 {"eventName":"MODIFY","eventSource":"aws:dynamodb","dynamodb":{"Keys":{"certificate_id":{"S":"cd"}}}},
	 {"eventName":"REMOVE","eventSource":"aws:dynamodb","dynamodb":{"Keys":{"certificate_id":{"S":"ef"}}}},
	 {"eventName":"INSERT","dynamodb":{"Keys":{"other":{"S":"gh"}}}},
	 {"eventName":"INSERT","dynamodb":{"Keys":{"certificate_id":{"N":"1"}}}}]}`
	if got, batched := newRows([]byte(batch)); !batched || !slices.Equal(got, []string{"ab"}) {
		t.Errorf("got %q, want the inserted row alone", got)
	}
	for _, other := range []string{``, `[]`, `{"certificateId":"x"}`, `{"Records":{}}`} {
		if got, batched := newRows([]byte(other)); batched {
			t.Errorf("%q gives %q", other, got)
		}
	}
}
