package memory

// Cut takes s off its data until Heal: calls fail with store.ErrUnavailable and watches say nothing.
// Its peers go on.
func (s *Store) Cut() {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	s.cut = true
}

// Heal ends Cut. Every watch of s then delivers a Complete batch.
func (s *Store) Heal() {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	s.cut = false
	s.relist()
}

// LoseAnswers makes the transactions of s happen and yet fail with store.ErrUnknown, as when a
// connection breaks between request and answer, until it is called with false.
func (s *Store) LoseAnswers(lose bool) {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	s.lose = lose
}

// Relist makes every watch of s deliver a Complete batch, as after a lost session.
func (s *Store) Relist() {
	s.data.mu.Lock()
	defer s.data.mu.Unlock()
	s.relist()
}
