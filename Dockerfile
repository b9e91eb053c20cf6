# The image of the daemon, for those who build with Docker; scripts/image makes one without. It has two static programs.
#
#   docker build --tag podwire/podwired:0.1.0 .
#   docker build --tag podwire/test-pods:0.1.0 --target test-pods .
#
# --platform linux/arm64 builds for another machine.
FROM docker.io/library/rust:1.95-bookworm AS source
RUN rustup set profile minimal
WORKDIR /podwire
COPY . .

FROM source AS podwired-built
RUN scripts/build podwire podwired \
 && mkdir -p /image/bin /image/etc && cp target/release/podwire target/release/podwired /image/bin \
 && strip /image/bin/* && echo "hosts: files dns" > /image/etc/nsswitch.conf

FROM source AS test-pods-built
RUN scripts/build irc-server weather-bot weather-service irc-user reachability wait-for-name \
 && mkdir -p /image/bin /image/etc && cd target/release \
 && cp irc-server weather-bot weather-service irc-user reachability wait-for-name /image/bin \
 && strip /image/bin/* && echo "hosts: files dns" > /image/etc/nsswitch.conf

FROM scratch AS test-pods
COPY --from=test-pods-built /image /
ENV PATH=/bin
USER 65534:65534

FROM scratch AS podwired
COPY --from=podwired-built /image /
ENV PATH=/bin
ENTRYPOINT ["/bin/podwired"]
