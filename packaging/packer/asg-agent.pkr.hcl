# For those who bake with Packer: the same script does the work, so that the image is the same. Before it:
#   make rpm
#   packer init packaging/packer      # Packer 1.7 and later; before, the builder is built in
#   packer build -var region=eu-west-1 packaging/packer
# What ami-bake.sh image does beside it and this doesn't: the boot test, publishing, removal by run id.

variable "region" {
  type = string
}

variable "rpm" {
  type    = string
  default = "target/rpm/asg-agent-0.1.0-1.x86_64.rpm"
}

variable "instance_type" {
  type    = string
  default = "t3.micro"
}

locals {
  stamp = formatdate("YYYYMMDD-hhmmss", timestamp())
}

source "amazon-ebs" "asg-agent" {
  region        = var.region
  instance_type = var.instance_type
  ami_name      = "asg-agent-packer-${local.stamp}"
  ssh_username  = "ec2-user"

  source_ami_filter {
    owners      = ["amazon"]
    most_recent = true
    filters = {
      name                = "al2023-ami-2023.*-kernel-*-x86_64"
      virtualization-type = "hvm"
      root-device-type    = "ebs"
    }
  }

  # Unknown to Packer 1.6, from here to the blank line.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    iops                  = 3000 # gp3 has these two without extra cost
    throughput            = 125
    encrypted             = true
    delete_on_termination = true
  }

  run_tags = {
    Name = "asg-agent-packer"
  }
  tags = {
    Name            = "asg-agent-packer-${local.stamp}"
    "ami-bake:name" = "asg-agent-packer-${local.stamp}"
  }
}

build {
  sources = ["source.amazon-ebs.asg-agent"]

  provisioner "file" {
    source      = var.rpm
    destination = "/tmp/asg-agent.rpm"
  }

  provisioner "file" {
    source      = "${path.root}/../bake/instance.sh"
    destination = "/tmp/instance.sh"
  }

  # clean takes both files, Packer's key and the host keys away; the session that is open stays open.
  provisioner "shell" {
    inline = [
      "sudo bash /tmp/instance.sh install --rpm /tmp/asg-agent.rpm",
      "sudo bash /tmp/instance.sh verify",
      "sudo bash /tmp/instance.sh clean",
    ]
  }
}
