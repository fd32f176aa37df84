package metrics

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func newTable(options runtime.Object) *metav1.Table {
	table := &metav1.Table{Rows: []metav1.TableRow{}}
	if o, ok := options.(*metav1.TableOptions); ok && o.NoHeaders {
		return table
	}
	table.ColumnDefinitions = []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: "Name of the measured object"},
		{Name: "CPU", Type: "string", Description: "Cores used, on the average of the window"},
		{Name: "Memory", Type: "string", Description: "Working set"},
		{Name: "Window", Type: "string", Description: "How long was measured"},
	}
	return table
}

func addRow(table *metav1.Table, object runtime.Object, m *metav1.ObjectMeta, u usage) {
	cpu, memory := u.list[corev1.ResourceCPU], u.list[corev1.ResourceMemory]
	table.Rows = append(table.Rows, metav1.TableRow{
		Cells:  []any{m.Name, cpu.String(), memory.String(), u.window.Round(1e6).String()},
		Object: runtime.RawExtension{Object: object},
	})
}

func plus(a, b corev1.ResourceList) corev1.ResourceList {
	sum := a.DeepCopy()
	if sum == nil {
		sum = corev1.ResourceList{}
	}
	for name, q := range b {
		total := sum[name]
		total.Add(q)
		sum[name] = total
	}
	return sum
}
