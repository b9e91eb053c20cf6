// Command policy-oracle judges packets by the engine of sigs.k8s.io/kube-network-policies, which nobody of podwire wrote.
//
// It reads clusters from standard input, a JSON document each: namespaces, pods, policies and ClusterNetworkPolicies as the API
// server stores them, and packets. For each packet it prints a line: "allow" or "deny" for the egress of its source, and for the ingress of its
// destination.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/kube-network-policies/pkg/api"
	"sigs.k8s.io/kube-network-policies/pkg/network"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	"sigs.k8s.io/kube-network-policies/pkg/podinfo"
	tiers "sigs.k8s.io/kube-network-policies/plugins/npa-v1alpha2"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	policyfake "sigs.k8s.io/network-policy-api/pkg/client/clientset/versioned/fake"
	policyinformers "sigs.k8s.io/network-policy-api/pkg/client/informers/externalversions"
)

// A packet that begins a connection. Of a protocol without ports the port is 0.
type packet struct {
	Source      net.IP          `json:"source"`
	Destination net.IP          `json:"destination"`
	Protocol    corev1.Protocol `json:"protocol"`
	Port        int             `json:"port"`
}

type cluster struct {
	Namespaces []*corev1.Namespace           `json:"namespaces"`
	Pods       []*corev1.Pod                 `json:"pods"`
	Policies   []*networkingv1.NetworkPolicy `json:"policies"`
	Packets    []packet                      `json:"packets"`

	ClusterPolicies []*policyv1alpha2.ClusterNetworkPolicy `json:"clusterPolicies"`
}

// What the engine asks for the pods of addresses, and what it judges by.
type engine struct {
	pods api.PodInfoProvider
	// In the order in which they are asked.
	tiers []api.PolicyEvaluator
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	if err := judgeAll(json.NewDecoder(bufio.NewReader(os.Stdin)), out); err != nil {
		fmt.Fprintf(os.Stderr, "policy-oracle: %v\n", err)
		os.Exit(1)
	}
}

func judgeAll(in *json.Decoder, out *bufio.Writer) error {
	for number := 1; ; number++ {
		var read cluster
		if err := in.Decode(&read); errors.Is(err, io.EOF) {
			return out.Flush()
		} else if err != nil {
			return fmt.Errorf("read cluster %d: %w", number, err)
		}
		judge, err := newEngine(&read)
		if err != nil {
			return fmt.Errorf("take in cluster %d: %w", number, err)
		}
		for _, packet := range read.Packets {
			egress, ingress, err := judge.verdict(packet)
			if err != nil {
				return fmt.Errorf("judge %+v of cluster %d: %w", packet, number, err)
			}
			if _, err := fmt.Fprintln(out, word(egress), word(ingress)); err != nil {
				return fmt.Errorf("write the verdict: %w", err)
			}
		}
	}
}

// The informers are never started: what they would have read from an API server is put into their caches.
func newEngine(read *cluster) (*engine, error) {
	factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	namespaces, pods := factory.Core().V1().Namespaces(), factory.Core().V1().Pods()
	policies := factory.Networking().V1().NetworkPolicies()
	ofCluster := policyinformers.NewSharedInformerFactory(policyfake.NewSimpleClientset(), 0)
	clusterPolicies := ofCluster.Policy().V1alpha2().ClusterNetworkPolicies()
	tier := func(tier policyv1alpha2.Tier) api.PolicyEvaluator {
		return tiers.NewClusterNetworkPolicy(tier, clusterPolicies, nil, factory.Core().V1().Nodes().Lister())
	}
	if err := errors.Join(
		fill(namespaces.Informer(), read.Namespaces),
		fill(pods.Informer(), read.Pods),
		fill(policies.Informer(), read.Policies),
		fill(clusterPolicies.Informer(), read.ClusterPolicies),
	); err != nil {
		return nil, err
	}
	return &engine{
		pods: podinfo.NewInformerProvider(pods, namespaces, nil, nil),
		tiers: []api.PolicyEvaluator{
			tier(policyv1alpha2.AdminTier),
			networkpolicy.NewStandardNetworkPolicy("", namespaces, pods, policies),
			tier(policyv1alpha2.BaselineTier),
		},
	}, nil
}

func fill[T any](informer cache.SharedIndexInformer, objects []T) error {
	for _, object := range objects {
		if err := informer.GetIndexer().Add(object); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) verdict(asked packet) (egress, ingress api.Verdict, err error) {
	source, _ := e.pods.GetPodInfoByIP(asked.Source.String())
	destination, _ := e.pods.GetPodInfoByIP(asked.Destination.String())
	seen := &network.Packet{
		SrcIP: asked.Source, DstIP: asked.Destination, SrcPort: 40000, DstPort: asked.Port, Proto: asked.Protocol,
	}
	// What no tier decides passes.
	egress, ingress = api.VerdictNext, api.VerdictNext
	for _, tier := range e.tiers {
		if egress == api.VerdictNext {
			if egress, err = tier.EvaluateEgress(context.Background(), seen, source, destination); err != nil {
				return egress, ingress, err
			}
		}
		if ingress == api.VerdictNext {
			if ingress, err = tier.EvaluateIngress(context.Background(), seen, source, destination); err != nil {
				return egress, ingress, err
			}
		}
	}
	return egress, ingress, nil
}

// A verdict that leaves it to the next evaluator lets the packet pass where there is none.
func word(verdict api.Verdict) string {
	if verdict == api.VerdictDeny {
		return "deny"
	}
	return "allow"
}
