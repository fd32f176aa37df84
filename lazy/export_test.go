package lazy

// busy says whether what an earlier start read is being fetched.
func (s *Service) busy() bool { return s.prefetching.Load() > 0 }
