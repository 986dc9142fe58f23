package awsim

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// maxAdvance keeps AWS's time within what a certificate can say.
const maxAdvance = 200 * 365 * 24 * time.Hour

// controlHandler is what AWS does not have: the knobs of the simulator itself, unsigned.
func (s *Sim) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /_awsim/clock", s.serveClock)
	mux.HandleFunc("GET /_awsim/state", s.serveState)
	mux.HandleFunc("POST /_awsim/allow-list/{account}/{region}/{table}", s.serveAllowList)
	return mux
}

// serveClock moves AWS's time forward, never TLS's or SigV4's.
func (s *Sim) serveClock(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Advance float64 `json:"advance_s"`
	}
	body := http.MaxBytesReader(w, r.Body, maxLine)
	if err := json.NewDecoder(body).Decode(&in); err != nil {
		s.refuseControl(w, "the body is not {\"advance_s\":N}: "+err.Error())
		return
	}
	if in.Advance < 0 || in.Advance > maxAdvance.Seconds() {
		s.refuseControl(w, "advance_s is negative or too large: time only goes on")
		return
	}
	total, err := s.advanceClock(in.Advance)
	if errors.Is(err, errTooFar) {
		s.refuseControl(w, err.Error())
		return
	}
	if err != nil {
		s.write(restJSON{}.fail(w, asAPI(err)))
		return
	}
	s.write(writeJSON(w, http.StatusOK, "application/json", object{"advance_s": total.Seconds(), "now": s.clock.now()}))
}

func (s *Sim) refuseControl(w http.ResponseWriter, why string) {
	s.write(writeJSON(w, http.StatusBadRequest, "application/json", object{"message": why}))
}

// serveAllowList takes the lines of `certmill order manifest`; sending them again changes nothing.
func (s *Sim) serveAllowList(w http.ResponseWriter, r *http.Request) {
	at := place{r.PathValue("account"), r.PathValue("region")}
	if !accountID.MatchString(at.account) || !s.accountExists(at.account) || !s.regionExists("dynamodb", at.region) {
		s.refuseControl(w, "there is no account "+at.account+" with a region "+at.region)
		return
	}
	n, err := s.fill(r.Context(), r.Body, at, r.PathValue("table"))
	if err != nil {
		s.refuseControl(w, err.Error())
		return
	}
	s.write(writeJSON(w, http.StatusOK, "application/json", object{"rows": n}))
}

// serveState counts what there is.
func (s *Sim) serveState(w http.ResponseWriter, _ *http.Request) {
	counts := object{}
	err := s.store.view(func(tx *tx) error {
		return tx.ForEach(func(name []byte, b *bucket) error {
			counts[string(name)] = b.Stats().KeyN
			return nil
		})
	})
	if err != nil {
		s.write(restJSON{}.fail(w, asAPI(err)))
		return
	}
	s.write(writeJSON(w, http.StatusOK, "application/json", object{"now": s.clock.now(), "entries": counts}))
}
