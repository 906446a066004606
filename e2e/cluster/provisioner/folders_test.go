package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func options(owner string) controller.ProvisionOptions {
	policy := corev1.PersistentVolumeReclaimDelete
	return controller.ProvisionOptions{
		PVName:       "pvc-1",
		StorageClass: &storagev1.StorageClass{ReclaimPolicy: &policy, Parameters: map[string]string{ownerParameter: owner}},
		PVC: &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		}},
	}
}

func TestAVolumeIsAFolderThatGoesWithIt(t *testing.T) {
	f := &folders{root: t.TempDir()}
	volume, _, err := f.Provision(context.Background(), options("0:0"))
	if err != nil {
		t.Fatal(err)
	}
	path := volume.Spec.HostPath.Path
	if err := os.WriteFile(filepath.Join(path, "data"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Provision(context.Background(), options("0:0")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "data")); err != nil {
		t.Fatal("asked again for the same claim, it emptied the folder:", err)
	}
	if err := f.Delete(context.Background(), volume); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatal("the folder is still there:", err)
	}
}

func TestAFolderOfSomebodyElseStays(t *testing.T) {
	f := &folders{root: t.TempDir()}
	elsewhere := t.TempDir()
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pvc-1"},
		Spec:       corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: elsewhere}}},
	}
	if err := f.Delete(context.Background(), volume); err == nil {
		t.Fatal("it deleted a folder that is not its own")
	}
	if _, err := os.Stat(elsewhere); err != nil {
		t.Fatal(err)
	}
}

func TestAnOwnerThatIsNotOneIsRefused(t *testing.T) {
	f := &folders{root: t.TempDir()}
	for _, text := range []string{"", "10001", "a:b", "-1:0", "1:2:3"} {
		if _, _, err := f.Provision(context.Background(), options(text)); err == nil {
			t.Errorf("owner %q was taken", text)
		}
	}
}
