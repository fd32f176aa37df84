package leveltool

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/weft-dev/weft/api/level/v1alpha1"
)

// A door that tells nothing any more is down, whatever it told last; one that judges by an older Registry is behind.
func TestStatesOfDoors(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		age   time.Duration
		state api.DoorState
		told  string
		want  string
	}{
		{time.Second, api.DoorReady, "7", "Ready"},
		{down + time.Second, api.DoorReady, "7", "Down"},
		{down + time.Second, api.DoorOff, "6", "Down"},
		{time.Second, api.DoorReady, "6", "Behind"},
		{time.Second, api.DoorStale, "6", "Stale"},
		{time.Second, api.DoorOff, "6", "Off"},
	} {
		r := &api.DoorReport{State: c.state, Registry: c.told, Renewed: metav1.NewMicroTime(now.Add(-c.age))}
		if got := against(stateOf(r, now), c.told, "7"); got != c.want {
			t.Errorf("%s, told %s ago of Registry %s: %s, want %s", c.state, c.age, c.told, got, c.want)
		}
	}
}
