package issuer

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkSubmit is a new device for each operation, with a key in memory and a real ledger: what the issuer costs beside the token.
// The clients' own work (a key and a CSR for each device) is done before.
func BenchmarkSubmit(b *testing.B) {
	for _, c := range []struct {
		name    string
		callers int
	}{{"callers=1", 1}, {"callers=8", 8}, {"callers=64", 64}} {
		b.Run(c.name, func(b *testing.B) { benchmarkSubmit(b, c.callers, 1) })
	}
	b.Run("batches=8x100", func(b *testing.B) { benchmarkSubmit(b, 8, 100) })
}

// benchmarkSubmit has callers ask for one certificate after the other, each for batch at a time.
func benchmarkSubmit(b *testing.B, callers, batch int) {
	p, o := readyPlant(b, maxQuantity)
	items := benchItems(p, o.ID, b.N)
	commits := p.ledger.Checkpoint().Size
	runtime.GC()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers * batch {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(len(items)); n = next.Add(1) {
				if _, err := p.Submit(p.Context(), items[n-1]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if made := p.ledger.Checkpoint().Size - commits; made != 2*uint64(b.N) {
		b.Errorf("%d entries for %d certificates", made, b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certs/s")
}

func benchItems(p *plant, order string, n int) []Item {
	items := make([]Item, n)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for m := next.Add(1); m <= int64(n); m = next.Add(1) {
				items[m-1] = Item{Order: order, Station: "line-1", DeviceID: deviceID(int(m)), CSR: newCSR(p, newKey(p), "")}
			}
		})
	}
	wg.Wait()
	return items
}

// BenchmarkReplay is the same request again and again.
func BenchmarkReplay(b *testing.B) {
	p, o := readyPlant(b, 1)
	it := p.item(o.ID, "DEMO-000001")
	p.submit(it)
	b.ResetTimer()
	for range b.N {
		p.submit(it)
	}
}
