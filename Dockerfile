# The images: one stage that builds, and one image for each program that is shipped.
#
#     docker build --target trilith-node -t trilith-node .
#
# `make images` builds all three, also where there is no Docker. What runs is a program and
# the libraries that it is linked with. No shell is needed, nothing is written outside the
# data folder, and nobody is root.

# The two Debian releases have to be the same: a program needs the libraries it was linked with.
ARG RUST=rust:1.95-bookworm
ARG BASE=debian:bookworm-slim

FROM ${RUST} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends clang libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# All at once: a choice of packages would be a choice of their features, and RocksDB built again.
# Line tables are for debuggers and are most of a program's size; the names of functions stay.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --workspace --bins \
    && mkdir -p /out/data \
    && for program in trilith-node trilith-operator trilith e2e-witness; do \
        strip --strip-debug -o "/out/$program" "target/debug/$program" || exit 1; \
    done

FROM ${BASE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="Trilith" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# By number, or Kubernetes could not see that it is not root.
USER 10001:10001
WORKDIR /

FROM base AS trilith-node
LABEL org.opencontainers.image.title="trilith-node" \
      org.opencontainers.image.description="The storage node of Trilith, a replicated key-value store"
COPY --from=build /out/trilith-node /usr/local/bin/trilith-node
# The command line too: to look at a cluster from within, and to be asked by probes.
COPY --from=build /out/trilith /usr/local/bin/trilith
COPY --from=build --chown=10001:10001 /out/data /var/lib/trilith
ENV TRILITH_DATA=/var/lib/trilith \
    TRILITH_LISTEN_GRPC=0.0.0.0:7400 \
    TRILITH_LISTEN_PEER=0.0.0.0:7401 \
    TRILITH_LISTEN_HTTP=0.0.0.0:7402
EXPOSE 7400 7401 7402
ENTRYPOINT ["/usr/local/bin/trilith-node"]

FROM base AS trilith-operator
LABEL org.opencontainers.image.title="trilith-operator" \
      org.opencontainers.image.description="The Kubernetes operator of Trilith"
COPY --from=build /out/trilith-operator /usr/local/bin/trilith-operator
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/trilith-operator"]

FROM base AS trilith
LABEL org.opencontainers.image.title="trilith" \
      org.opencontainers.image.description="The command line of Trilith"
COPY --from=build /out/trilith /usr/local/bin/trilith
ENTRYPOINT ["/usr/local/bin/trilith"]

# Not shipped: the application that the end-to-end scenarios run in the cluster.
FROM base AS trilith-witness
LABEL org.opencontainers.image.title="trilith-witness" \
      org.opencontainers.image.description="Uses a Trilith cluster and judges what it saw, for tests"
COPY --from=build /out/e2e-witness /usr/local/bin/e2e-witness
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/e2e-witness"]
