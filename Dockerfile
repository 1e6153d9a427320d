# Weir's image: docker build -t weir .
# e2e/image builds the same one without Docker: its files are those of e2e/image/root.sh, which both run, and user,
# folder and entrypoint are read from the last stage of this file.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p weir && e2e/image/root.sh target/release/weir /image

FROM scratch
COPY --from=build /image /
WORKDIR /var/lib/weir
USER 65532:65532
ENTRYPOINT ["/usr/bin/weir"]
