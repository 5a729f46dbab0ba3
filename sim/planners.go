package sim

import (
	"github.com/understudy-ha/understudy/api"
	"github.com/understudy-ha/understudy/cloud"
	"github.com/understudy-ha/understudy/cloud/azure"
	"github.com/understudy-ha/understudy/cloud/linux"
)

// planners are the product's own.
func (w *world) planners() map[api.ProviderType]cloud.Planner {
	return map[api.ProviderType]cloud.Planner{api.ProviderLinux: linux.Planner{Timing: w.timing}, api.ProviderAzure: azure.Planner{}}
}
