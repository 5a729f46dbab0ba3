package controller

import "github.com/understudy-ha/understudy/api"

func (c *Core) operate(d driven, j *api.Job, r *run)        {}
func (c *Core) unsettled(a *agent, w *api.AwaitStep) string { return "" }
