package probe

func (a attempt) askTCP() *failure {
	c, f := a.dial()
	if f != nil {
		return f
	}
	c.close()
	return nil
}
