package clock

import (
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/options"
)

// Read reads the options for times of a section: time_type, time_format, time_format_fallbacks, localtime, utc and timezone. Other is the type if
// none is set. Times are local unless the section says otherwise.
func Read(o *options.Set, other string) Settings {
	s := Settings{Type: strings.ToLower(o.String("time_type")), Format: o.String("time_format"), Fallbacks: o.Array("time_format_fallbacks"), Zone: time.Local}
	if !o.Has("time_type") {
		s.Type = other
	}
	switch s.Type {
	case "string", "unixtime", "float", "mixed", "unixtime_millis", "unixtime_micros", "unixtime_nanos":
	default:
		o.Failf("time_type", "there is no time_type %q; there are string, unixtime, float and mixed", s.Type)
	}
	local := true
	if o.Has("localtime") {
		local = o.Bool("localtime")
	}
	utc := o.Bool("utc")
	if utc && o.Has("localtime") && local {
		o.Failf("utc", "both utc and localtime are set; use one of them")
	}
	if utc || !local {
		s.Zone = time.UTC
	}
	if name := o.String("timezone"); name != "" {
		zone, err := Zone(name)
		if err != nil {
			o.Failf("timezone", "timezone: %v", err)
			return s
		}
		s.Zone = zone
	}
	o.Ignore("localtime")
	return s
}
