# The node as one static program in an image that holds nothing else; no shell, no package, not root.
#
#   docker build -t centripeta .
#   docker run --rm -v ./node.toml:/etc/centripeta/node.toml:ro centripeta
#
# As it comes it listens on the loopback of its container alone: who may reach it is for node.toml or
# the environment to say, and docs/install.md says how. Both bases can be others, such as a mirror's.
ARG BUILD_BASE=rust:1.95-slim-bookworm
ARG RUN_BASE=scratch

FROM ${BUILD_BASE} AS build
WORKDIR /src
COPY . .
# glibc, not musl: its allocator is the faster one with many threads, and it still finds names by
# itself, /etc/hosts first, then DNS. The triple is named so that build scripts stay dynamic.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS='-C target-feature=+crt-static' \
       CARGO_PROFILE_RELEASE_STRIP=debuginfo \
       cargo build --release --locked --bin centripeta --target "$target" \
    && install -D -m 0755 "target/$target/release/centripeta" /out/usr/bin/centripeta \
    && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt \
    && install -D -m 0644 -t /out/usr/share/licenses/centripeta LICENSE-MIT LICENSE-APACHE \
    && install -d -m 0700 /data

FROM ${RUN_BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="centripeta" \
      org.opencontainers.image.description="A clustered, actor-based event router that sits behind Centrifugo" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /
# For node.data of a member of a cluster: a new volume that is mounted here belongs to the node.
COPY --from=build --chown=65532:65532 /data /var/lib/centripeta
# ./node.toml is read from here if it exists.
WORKDIR /etc/centripeta
USER 65532:65532
# Events over gRPC; health and metrics.
EXPOSE 10001 10003
# SIGTERM drains for limits.shutdown_grace (25s): stop with more, as `docker stop -t 35`.
STOPSIGNAL SIGTERM
# Alive, which is what an orchestrator restarts by; `health --ready` says whether events are taken.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/bin/centripeta", "health"]
ENTRYPOINT ["/usr/bin/centripeta"]
CMD ["serve"]
