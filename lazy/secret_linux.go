package lazy

// readSecrets takes over the credentials that an earlier worker had.
func (w *watch) readSecrets() {
	f := w.client.Secrets()
	if f == nil {
		return
	}
	defer f.Close()
	i, number, err := readSecret(f)
	w.secret.number = number
	if err != nil {
		w.service.log.Warn("private images cannot be fetched before they are pulled again", "error", err)
		return
	}
	w.service.credentials.inherit(i)
}

// secrets leaves the credentials to the next worker, in memory that only keeper and worker have.
func (w *watch) secrets() {
	w.secret.Lock()
	defer w.secret.Unlock()
	f := w.client.Secrets()
	if f == nil {
		return
	}
	defer f.Close()
	w.secret.number++
	if err := writeSecret(f, w.service.credentials.leave(), w.secret.number); err != nil {
		w.service.log.Warn("the credentials cannot be left to the next worker", "error", err)
	}
}
