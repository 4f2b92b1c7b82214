package main

// seen remembers the last ids, and forgets the oldest.
type seen struct {
	ids  map[string]struct{}
	ring []string
	next int
}

func newSeen(size int) *seen {
	return &seen{ids: make(map[string]struct{}, size), ring: make([]string, size)}
}

// add says whether the id is new.
func (s *seen) add(id string) bool {
	if _, known := s.ids[id]; known {
		return false
	}
	delete(s.ids, s.ring[s.next])
	s.ids[id] = struct{}{}
	s.ring[s.next] = id
	s.next = (s.next + 1) % len(s.ring)
	return true
}
