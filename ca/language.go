package ca

import (
	"regexp/syntax"
	"slices"
	"unicode"
)

// language is the set of strings that a subject value may become, seen through the regular expression that describes it. What
// it says is never less than the truth: where it cannot know, it assumes the worst.
type language struct {
	tree *syntax.Regexp
	prog *syntax.Prog
}

func newLanguage(pattern string) (language, error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return language{}, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	return language{tree, prog}, err
}

// maxLength is the number of characters of the longest string; ok is false where there is none.
func (l language) maxLength() (n int, ok bool) { return maxLength(l.tree) }

func maxLength(re *syntax.Regexp) (n int, ok bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune), true
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1, true
	case syntax.OpStar, syntax.OpPlus:
		n, ok = maxLength(re.Sub[0])
		return 0, ok && n == 0
	case syntax.OpRepeat:
		n, ok = maxLength(re.Sub[0])
		return n * re.Max, ok && (re.Max >= 0 || n == 0)
	}
	for _, sub := range re.Sub { // concatenation, alternative, capture, question mark; assertions have none
		m, bounded := maxLength(sub)
		if !bounded {
			return 0, false
		}
		if re.Op == syntax.OpAlternate {
			n = max(n, m)
		} else {
			n += m
		}
	}
	return n, true
}

// allows reports whether every character that can occur satisfies ok, which must be false for all but a part of ASCII.
func (l language) allows(ok func(rune) bool) bool {
	for i := range l.prog.Inst {
		inst := &l.prog.Inst[i]
		if !consumes(inst) {
			continue
		}
		if inst.MatchRune(unicode.MaxRune) || inst.MatchRune('\u017f') || inst.MatchRune('\u212a') { // the last two fold to s and k
			return false
		}
		for r := rune(0); r <= unicode.MaxASCII; r++ {
			if inst.MatchRune(r) && !ok(r) {
				return false
			}
		}
		if wide := slices.ContainsFunc(inst.Rune, func(r rune) bool { return r > unicode.MaxASCII }); wide {
			return false
		}
	}
	return true
}

// holdsCode reports whether some string of the language is a registration code: 64 hex digits, perhaps after 0x.
func (l language) holdsCode() bool {
	hex := "0123456789abcdefABCDEF"
	states := l.closure(nil, l.prog.Start)
	prefixed := l.step(l.step(states, "0"), "xX")
	for range 64 {
		states, prefixed = l.step(states, hex), l.step(prefixed, hex)
	}
	return l.accepts(states) || l.accepts(prefixed)
}

// step returns the states after one more character out of chars.
func (l language) step(states []uint32, chars string) (next []uint32) {
	for _, pc := range states {
		inst := &l.prog.Inst[pc]
		if !consumes(inst) {
			continue
		}
		for _, r := range chars {
			if inst.MatchRune(r) {
				next = l.closure(next, int(inst.Out))
				break
			}
		}
	}
	return next
}

// closure adds the state pc and those that it reaches without a character. Assertions are taken as met.
func (l language) closure(states []uint32, pc int) []uint32 {
	if slices.Contains(states, uint32(pc)) {
		return states
	}
	states = append(states, uint32(pc))
	inst := &l.prog.Inst[pc]
	switch inst.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		return l.closure(l.closure(states, int(inst.Out)), int(inst.Arg))
	case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
		return l.closure(states, int(inst.Out))
	}
	return states
}

func (l language) accepts(states []uint32) bool {
	return slices.ContainsFunc(states, func(pc uint32) bool { return l.prog.Inst[pc].Op == syntax.InstMatch })
}

func consumes(inst *syntax.Inst) bool {
	switch inst.Op {
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return true
	}
	return false
}

// sample returns a short string of the language, of letters and digits where it can; whether it belongs is for the caller to see.
func (l language) sample() string { return sample(l.tree) }

func sample(re *syntax.Regexp) (s string) {
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCharClass:
		return string(pick(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "A"
	case syntax.OpStar, syntax.OpQuest:
		return ""
	case syntax.OpAlternate, syntax.OpPlus, syntax.OpCapture:
		return sample(re.Sub[0])
	case syntax.OpRepeat:
		for range re.Min {
			s += sample(re.Sub[0])
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			s += sample(sub)
		}
	}
	return s
}

// pick chooses a character of a class, given as pairs of first and last.
func pick(class []rune) rune {
	if len(class) == 0 {
		return unicode.ReplacementChar
	}
	for _, want := range "A0a" {
		for i := 0; i+1 < len(class); i += 2 {
			if class[i] <= want && want <= class[i+1] {
				return want
			}
		}
	}
	return class[0]
}
