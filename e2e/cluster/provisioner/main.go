// Command provisioner gives claims their volumes on the native cluster.
//
// A volume is a folder of this machine, which every node of the cluster can reach. Kubernetes never
// changes the owner of such a folder, whatever a pod's fsGroup says, so it is handed to the
// user whom the storage class names: pods then need no rights that they would not need elsewhere.
//
//	claim ──▶ folders: make the folder, hand it over  ──▶ volume
//	claim that asks for more ──▶ growth: write the new size on the volume, then on the claim
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// The name by which storage classes ask for this program.
const provisionerName = "trilith.dev/folder"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		os.Exit(1)
	}
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "the kubeconfig of the cluster")
	root := flag.String("root", "", "the folder that holds the volumes' folders")
	flag.Parse()
	if *kubeconfig == "" || !filepath.IsAbs(*root) {
		return errors.New("--kubeconfig and --root, an absolute path, are both needed")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// The mode of a folder is what it is made with, whoever starts this.
	syscall.Umask(0)
	if err := os.MkdirAll(*root, 0o755); err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	shared := informers.NewSharedInformerFactory(client, 0)
	claims := shared.Core().V1().PersistentVolumeClaims().Informer()
	volumes := shared.Core().V1().PersistentVolumes().Informer()
	growth := newGrowth(client, claims, volumes)
	provisioning := controller.NewProvisionController(ctx, client, provisionerName, &folders{root: *root},
		controller.ClaimsInformer(claims), controller.VolumesInformer(volumes),
		// Only one of these runs for a cluster.
		controller.LeaderElection(false))
	shared.Start(ctx.Done())
	shared.WaitForCacheSync(ctx.Done())
	go growth.run(ctx)
	provisioning.Run(ctx)
	return nil
}
