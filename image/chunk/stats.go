package chunk

// Stats says what a Writer did.
type Stats struct {
	Chunks      int64 `json:"chunks"`      // all, without holes
	Bytes       int64 `json:"bytes"`       // decoded bytes of all chunks
	Holes       int64 `json:"holes"`       // decoded bytes that are zeros and stored nowhere
	Written     int64 `json:"written"`     // chunks written
	Decoded     int64 `json:"decoded"`     // decoded bytes of the chunks written
	Stored      int64 `json:"stored"`      // bytes of the blobs written
	KnownChunks int64 `json:"knownChunks"` // chunks found in Options.Known
	KnownBytes  int64 `json:"knownBytes"`
	AgainChunks int64 `json:"againChunks"` // chunks found among those written before
	AgainBytes  int64 `json:"againBytes"`
}

// Add adds what another Writer did.
func (s *Stats) Add(o Stats) {
	s.Chunks += o.Chunks
	s.Bytes += o.Bytes
	s.Holes += o.Holes
	s.Written += o.Written
	s.Decoded += o.Decoded
	s.Stored += o.Stored
	s.KnownChunks += o.KnownChunks
	s.KnownBytes += o.KnownBytes
	s.AgainChunks += o.AgainChunks
	s.AgainBytes += o.AgainBytes
}
