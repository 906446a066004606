package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// The parameter of a storage class that says whose the folders are, as UID:GID.
const ownerParameter = "owner"

// Only the owner and its group may look into a volume, as on a disk that a driver formatted.
const folderMode = 0o770

// folders makes and removes the folders behind volumes. It remembers nothing: the volume says all.
type folders struct {
	root string
}

// Provision makes a folder for a claim. Called again for the same claim, it finds the folder
// that it made, and hands it over once more, which changes nothing.
func (f *folders) Provision(_ context.Context, options controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	uid, gid, err := owner(options.StorageClass.Parameters[ownerParameter])
	if err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("storage class %s: %w", options.StorageClass.Name, err)
	}
	path := filepath.Join(f.root, options.PVName)
	if err := os.MkdirAll(path, folderMode); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.Chown(path, uid, gid); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	directory := corev1.HostPathDirectory
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: requested(options.PVC)},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				// A pod whose folder was taken away must not start on an empty one that looks like it.
				HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &directory},
			},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes a volume's folder with all that is in it.
func (f *folders) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	path := filepath.Join(f.root, volume.Name)
	if volume.Spec.HostPath == nil || volume.Spec.HostPath.Path != path {
		return &controller.IgnoredError{Reason: "this volume is not a folder under " + f.root}
	}
	return os.RemoveAll(path)
}

func owner(text string) (uid, gid int, err error) {
	user, group, found := strings.Cut(text, ":")
	if found {
		if uid, err = strconv.Atoi(user); err == nil {
			gid, err = strconv.Atoi(group)
		}
	}
	if !found || err != nil || uid < 0 || gid < 0 {
		return 0, 0, fmt.Errorf("parameter %q is %q, and should be UID:GID, such as 10001:10001", ownerParameter, text)
	}
	return uid, gid, nil
}
