package main

import (
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress counts long work. On a terminal it draws a bar with rate and time left; elsewhere it draws nothing.
type progress struct {
	bars *mpb.Progress
	bar  *mpb.Bar
}

// newProgress starts a bar of total steps; 0 or less means that the total is not known yet.
func (e *env) newProgress(what string, total int64) *progress {
	if !e.interactive() {
		return &progress{}
	}
	bars := mpb.New(mpb.WithOutput(e.stderr), mpb.WithRefreshRate(200*time.Millisecond))
	bar := bars.AddBar(total, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name("  "+what+"  "), decor.CountersNoUnit("%d of %d ")),
		mpb.AppendDecorators(decor.AverageSpeed(0, "%.0f/s "), decor.AverageETA(decor.ET_STYLE_GO)))
	return &progress{bars: bars, bar: bar}
}

// add says that n more steps are done.
func (p *progress) add(n int) {
	if p.bar != nil {
		p.bar.IncrBy(n)
	}
}

// done takes the bar away: a line with the result follows.
func (p *progress) done() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}
