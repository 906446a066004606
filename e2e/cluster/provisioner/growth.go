package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// The annotation by which Kubernetes says who made a volume.
const provisionedBy = "pv.kubernetes.io/provisioned-by"

// growth enlarges volumes whose claims ask for more. The API server lets a claim ask for more only
// where its class allows it, so whatever is asked here is given. A folder has no size of its own:
// what grows are the figures.
type growth struct {
	client  kubernetes.Interface
	claims  cache.Store
	volumes cache.Store
	queue   workqueue.TypedRateLimitingInterface[string]
}

func newGrowth(client kubernetes.Interface, claims, volumes cache.SharedIndexInformer) *growth {
	g := &growth{
		client:  client,
		claims:  claims.GetStore(),
		volumes: volumes.GetStore(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 10*time.Second)),
	}
	enqueue := func(object any) {
		if key, err := cache.MetaNamespaceKeyFunc(object); err == nil {
			g.queue.Add(key)
		}
	}
	// The only error is that the informer has stopped, which it does with this program.
	_, _ = claims.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
	})
	return g
}

func (g *growth) run(ctx context.Context) {
	go func() {
		<-ctx.Done()
		g.queue.ShutDown()
	}()
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		for g.next(ctx) {
		}
	}, time.Second)
}

func (g *growth) next(ctx context.Context) bool {
	key, stopped := g.queue.Get()
	if stopped {
		return false
	}
	defer g.queue.Done(key)
	if err := g.grow(ctx, key); err != nil {
		klog.ErrorS(err, "could not enlarge a volume, and will try again", "claim", key)
		g.queue.AddRateLimited(key)
		return true
	}
	g.queue.Forget(key)
	return true
}

// grow brings volume and claim to what the claim asks for: first the volume, so that a claim
// never says that it has what its volume does not.
func (g *growth) grow(ctx context.Context, key string) error {
	object, exists, err := g.claims.GetByKey(key)
	if err != nil || !exists {
		return err
	}
	claim := object.(*corev1.PersistentVolumeClaim)
	wanted, has := requested(claim), claim.Status.Capacity[corev1.ResourceStorage]
	if claim.Status.Phase != corev1.ClaimBound || wanted.Cmp(has) <= 0 {
		return nil
	}
	object, exists, err = g.volumes.GetByKey(claim.Spec.VolumeName)
	if err != nil {
		return err
	}
	if !exists {
		return errors.New("its volume is not known yet")
	}
	volume := object.(*corev1.PersistentVolume)
	if volume.Annotations[provisionedBy] != provisionerName {
		return nil
	}
	size := corev1.ResourceList{corev1.ResourceStorage: wanted}
	if capacity := volume.Spec.Capacity[corev1.ResourceStorage]; capacity.Cmp(wanted) < 0 {
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"capacity": size}})
		if err != nil {
			return err
		}
		if _, err = g.client.CoreV1().PersistentVolumes().Patch(ctx, volume.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"capacity": size}})
	if err != nil {
		return err
	}
	_, err = g.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func requested(claim *corev1.PersistentVolumeClaim) resource.Quantity {
	return claim.Spec.Resources.Requests[corev1.ResourceStorage]
}
